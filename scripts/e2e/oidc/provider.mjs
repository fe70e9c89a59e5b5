// A real identity provider for scripts/e2e/oidc.sh: npm's oidc-provider, with users from a file and, if told to, ID tokens
// that must be refused.
//
//   node provider.mjs PORT FOLDER
//
// FOLDER/users.json says who there is: {"kim": {"groups": ["…"]}}. It is read each time, so that people come and go.
// FOLDER/forge has one word, read each time too: what is wrong with the next ID tokens, see forge(). A signal USR1 makes
// another key the only one, as after a rotation; USR2 does, too, and signs by EdDSA from then on.
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, folder] = process.argv.slice(2);
// Installed elsewhere than this file: NODE_MODULES says where.
const modules = createRequire(`${process.env.NODE_MODULES}/`);
const { default: Provider } = await import(pathToFileURL(modules.resolve('oidc-provider')));
const { SignJWT, importJWK } = await import(pathToFileURL(modules.resolve('jose')));

const ISSUER = `http://127.0.0.1:${port}`;
const SECRET = 'a secret with spaces, % and : in it';

const read = (file, otherwise) => {
  try {
    return readFileSync(`${folder}/${file}`, 'utf8').trim();
  } catch {
    return otherwise;
  }
};
const users = () => JSON.parse(read('users.json', '{}'));

let keys = 0;
const newKey = (alg = 'RS256') => {
  keys += 1;
  const { privateKey } = alg === 'EdDSA' ? generateKeyPairSync('ed25519') : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${keys}`, alg, use: 'sig' };
};

// What is wrong with an ID token, by a word. All but the last four are signed by the key that is published.
const forge = async (word, idToken, key) => {
  const claims = JSON.parse(Buffer.from(idToken.split('.')[1], 'base64url'));
  const now = Math.floor(Date.now() / 1000);
  const sign = async (changes, signer = key, kid = key.kid) => new SignJWT({ ...claims, ...changes })
    .setProtectedHeader({ alg: signer.alg, kid }).sign(await importJWK(signer, signer.alg));
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  switch (word) {
    case 'audience': return sign({ aud: 'another' });
    case 'party': return sign({ aud: ['mangrove', 'another'], azp: 'another' });
    case 'issuer': return sign({ iss: 'http://127.0.0.1:1' });
    case 'expired': return sign({ iat: now - 500, exp: now - 120 });
    case 'old': return sign({ iat: now - 3600, exp: now + 3600 });
    case 'future': return sign({ iat: now + 3600, exp: now + 7200 });
    case 'nonce': return sign({ nonce: 'of another login' });
    case 'withdrawn': return sign({}, withdrawn, withdrawn.kid);
    case 'stranger': return sign({}, newKey());
    case 'none': return `${part({ alg: 'none', typ: 'JWT', kid: key.kid })}.${part(claims)}.`;
    case 'hs256': {
      const text = `${part({ alg: 'HS256', kid: key.kid })}.${part(claims)}`;
      return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
    }
    default: throw new Error(`nobody forges ${word}`);
  }
};

const start = (key) => {
  const provider = new Provider(ISSUER, {
    clients: [{
      client_id: 'mangrove',
      client_secret: SECRET,
      redirect_uris: ['http://127.0.0.1:10000/api/auth/oidc/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      id_token_signed_response_alg: key.alg,
    }],
    scopes: ['openid', 'offline_access', 'profile', 'groups'],
    claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
    features: { deviceFlow: { enabled: true } },
    pkce: { required: () => true },
    jwks: { keys: [key] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'EdDSA'] },
    cookies: { keys: ['of a test'] },
    rotateRefreshToken: true,
    ttl: { AccessToken: 600, AuthorizationCode: 60, DeviceCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
    findAccount: (_, id) => {
      const user = users()[id];
      return user && { accountId: id, claims: () => ({ sub: id, preferred_username: id, ...user }) };
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    const word = read('forge', '');
    if (ctx.path === '/token' && ctx.body?.id_token && word !== '') {
      ctx.body.id_token = await forge(word, ctx.body.id_token, key);
    }
  });
  provider.on('server_error', (ctx, error) => console.error(ctx.path, error));
  provider.on('grant.error', (ctx, error) => console.error('grant', error.message, error.error_detail ?? ''));
  return provider.callback();
};

let withdrawn;
let current = newKey();
let handle = start(current);
const rotate = (alg) => {
  [withdrawn, current] = [current, newKey(alg)];
  handle = start(current);
  console.error(`the only key is key-${keys}, for ${alg}`);
};
process.on('SIGUSR1', () => rotate('RS256'));
process.on('SIGUSR2', () => rotate('EdDSA'));
createServer((request, response) => handle(request, response)).listen(port, '127.0.0.1');
