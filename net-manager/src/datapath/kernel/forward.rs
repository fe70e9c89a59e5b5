//! Other programs' firewalls. An accept in our table does not undo a drop in theirs, so where Docker offers a chain for
//! the rules of others, ours go there; elsewhere the user is told.

use std::collections::BTreeMap;

use net_core::{Family as IpFamily, ForwardFilter};
use nlink::netlink::{
    Connection, MessageBuilder, Nftables,
    nftables::{
        ChainInfo, Family, Field, Hook, Match, NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, NFTA_RULE_TABLE,
        NFTA_RULE_USERDATA, RawMessage, RuleInfo, RuleSpec, Stmt, Value, Verdict, write_expressions,
    },
};

use super::{link_prefix, ruleset::TABLE};
use crate::datapath::DatapathError;

/// Docker's documented place for rules that come before its own.
const DOCKER_TABLE: &str = "filter";
const DOCKER_CHAIN: &str = "DOCKER-USER";
/// The comment our two rules carry there.
const MARK: &str = "mangrove";
const RULES: usize = 2;
/// `NF_DROP`, as a chain's policy.
const POLICY_DROP: u32 = 0;
/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

const fn nft_family(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::Ip,
        IpFamily::V6 => Family::Ip6,
    }
}

/// What stands in the way, per version of IP.
pub(super) async fn read(
    nftables: &Connection<Nftables>,
    chains: &[ChainInfo],
) -> Result<BTreeMap<IpFamily, ForwardFilter>, DatapathError> {
    let mut filters = BTreeMap::new();
    for family in FAMILIES {
        let drops = chains.iter().find(|chain| drops_forwarded(chain, nft_family(family)));
        let docker = chains.iter().any(|chain| is_docker_user(chain, nft_family(family)));
        let docker_user = if docker { Some(our_rules(nftables, family).await?.len() == RULES) } else { None };
        if drops.is_some() || docker {
            let drops = drops.map(|chain| format!("{} {} {}", chain.family, chain.table, chain.name));
            filters.insert(family, ForwardFilter { drops, docker_user });
        }
    }
    Ok(filters)
}

fn drops_forwarded(chain: &ChainInfo, family: Family) -> bool {
    let concerns = chain.family == family || chain.family == Family::Inet;
    let forwards = chain.hook == Some(Hook::Forward.number(chain.family));
    concerns && forwards && chain.policy == Some(POLICY_DROP) && chain.table != TABLE
}

fn is_docker_user(chain: &ChainInfo, family: Family) -> bool {
    chain.family == family && chain.table == DOCKER_TABLE && chain.name == DOCKER_CHAIN
}

async fn our_rules(
    nftables: &Connection<Nftables>,
    family: IpFamily,
) -> Result<Vec<RuleInfo>, DatapathError> {
    let rules = nftables
        .list_rules(DOCKER_TABLE, nft_family(family))
        .await
        .map_err(DatapathError::from_attempt("read Docker's chain DOCKER-USER"))?;
    let ours = |rule: &RuleInfo| rule.chain == DOCKER_CHAIN && rule.comment_text.as_deref() == Some(MARK);
    Ok(rules.into_iter().filter(ours).collect())
}

/// Puts our two rules at the head of Docker's chain, in place of any that are there.
pub(super) async fn open(nftables: &Connection<Nftables>, family: IpFamily) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("accept instances in Docker's chain DOCKER-USER");
    let mut transaction = nftables.transaction();
    for rule in our_rules(nftables, family).await? {
        transaction = transaction.del_rule(DOCKER_TABLE, DOCKER_CHAIN, nft_family(family), rule.handle);
    }
    for field in [Field::Iifname, Field::Oifname] {
        transaction = transaction.raw(accept_at_head(field, nft_family(family)).map_err(failed())?);
    }
    transaction.commit(nftables).await.map_err(failed())?;
    tracing::info!(family = %nft_family(family), "instances are accepted in Docker's chain DOCKER-USER");
    Ok(())
}

/// `insert rule ip filter DOCKER-USER iifname "mgv*" counter accept comment "mangrove"`. The library only appends, and
/// at the end Docker may have put a `return`. The counter is what iptables expects of a rule it lists.
fn accept_at_head(field: Field, family: Family) -> nlink::netlink::Result<RawMessage> {
    let rule = RuleSpec::new()
        .then(Match::eq(field, Value::NamePrefix(link_prefix().to_owned())))
        .then(Stmt::Counter)
        .then(Verdict::Accept);
    let mut builder = MessageBuilder::new(0, 0);
    let header = builder.len();
    builder.append_attr_str(NFTA_RULE_TABLE, DOCKER_TABLE);
    builder.append_attr_str(NFTA_RULE_CHAIN, DOCKER_CHAIN);
    write_expressions(&mut builder, &rule.lower(family)?);
    builder.append_attr(NFTA_RULE_USERDATA, &comment(MARK));
    let attributes = builder.as_bytes()[header..].to_vec();
    Ok(RawMessage::new(NFT_MSG_NEWRULE, family).flags(CREATE).attrs(attributes))
}

/// A comment as `nft` and `iptables-nft` keep it: type 0, length, text with its terminator.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("our comment is short");
    [&[0, length], text.as_bytes(), &[0]].concat()
}

/// Takes our rules out of Docker's chains.
pub(super) async fn close(nftables: &Connection<Nftables>) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("remove our rules from Docker's chain DOCKER-USER");
    let chains = nftables.list_chains().await.map_err(failed())?;
    for family in FAMILIES {
        if !chains.iter().any(|chain| is_docker_user(chain, nft_family(family))) {
            continue;
        }
        let mut transaction = nftables.transaction();
        let rules = our_rules(nftables, family).await?;
        if rules.is_empty() {
            continue;
        }
        for rule in rules {
            transaction = transaction.del_rule(DOCKER_TABLE, DOCKER_CHAIN, nft_family(family), rule.handle);
        }
        transaction.commit(nftables).await.map_err(failed())?;
    }
    Ok(())
}
