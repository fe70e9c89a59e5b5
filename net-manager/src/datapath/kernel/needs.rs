//! What a kernel must have. It is tried out before anything of the device is changed, so that one that lacks something is
//! refused at the start and not with the first instance. What is tried is undone in the same transaction, or at once; a
//! kernel that has it as a module loads that.

use std::{
    fs::OpenOptions,
    net::{IpAddr, Ipv4Addr},
};

use nlink::netlink::{
    Connection, Nftables, Route,
    link::{LinkConfig, VethLink, VxlanLink},
    namespace::Netns,
    nftables::{
        BaseChain, Chain, CtState, Expr, Family, FibFlags, FibResult, Field, FilterHook, HashKind, Match,
        NatHook, NatStatement, NumgenKind, PayloadBase, Priority, Register, Reject, Rule, RuleSpec, Stmt,
        Transaction,
    },
};
use rustix::io::Errno;

use super::{ruleset::TCP, spread::translate_to_found};
use crate::datapath::DatapathError;

/// A table that is gone before anybody sees it.
const TABLE: &str = "mangrove-trial";
/// An interface that is gone at once.
const LINK: &str = "mgvtrial";
const DEVICE: &str = "/dev/net/tun";
const CHAIN: &str = "trial";
/// Where it is in a header of IPv4, and how long.
const DESTINATION: u32 = 16;
const ADDRESS: u32 = 4;

/// A part of the kernel, called what its module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    NfTables,
    Ct,
    Fib,
    Reject,
    ChainNat,
    Nat,
    Masq,
    Numgen,
    Hash,
    Veth,
    Vxlan,
    Tun,
}

impl Need {
    /// What the others are made of is first.
    const ALL: [Self; 12] = [
        Self::NfTables,
        Self::Ct,
        Self::Fib,
        Self::Reject,
        Self::ChainNat,
        Self::Nat,
        Self::Masq,
        Self::Numgen,
        Self::Hash,
        Self::Veth,
        Self::Vxlan,
        Self::Tun,
    ];

    const fn module(self) -> &'static str {
        match self {
            Self::NfTables => "nf_tables",
            Self::Ct => "nft_ct",
            Self::Fib => "nft_fib_inet",
            Self::Reject => "nft_reject_inet",
            Self::ChainNat => "nft_chain_nat",
            Self::Nat => "nft_nat",
            Self::Masq => "nft_masq",
            Self::Numgen => "nft_numgen",
            Self::Hash => "nft_hash",
            Self::Veth => "veth",
            Self::Vxlan => "vxlan",
            Self::Tun => "tun",
        }
    }

    /// What there would be none of without it.
    const fn purpose(self) -> &'static str {
        match self {
            Self::NfTables => "rules",
            Self::Ct => "known connections",
            Self::Fib => "who may send from where",
            Self::Reject => "calls that are refused at once",
            Self::ChainNat | Self::Nat => "calls to services and ports",
            Self::Masq => "instances that speak to the world",
            Self::Numgen => "calls to instances in turn",
            Self::Hash => "the affinity address",
            Self::Veth => "cables to instances",
            Self::Vxlan => "links within a trusted site",
            Self::Tun => "encrypted links",
        }
    }

    async fn try_out(self, host: &Netns) -> nlink::Result<()> {
        let rule = RuleSpec::new;
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address =
            |dreg| Expr::Payload { dreg, base: PayloadBase::Network, offset: DESTINATION, len: ADDRESS };
        let led = || Field::Fib { flags: FibFlags::SADDR | FibFlags::IIF, result: FibResult::Oif };
        let (numgen, modulus, offset) = (NumgenKind::Incremental, 2, 0);
        match self {
            Self::NfTables => try_chain(host, None, None).await,
            Self::ChainNat => {
                let nat = BaseChain::nat(NatHook::Prerouting, Priority::DstNat);
                try_chain(host, Some(nat), None).await
            }
            Self::Ct => try_rule(host, rule().then(Match::eq(Field::CtState, CtState::ESTABLISHED))).await,
            Self::Fib => try_rule(host, rule().then(Match::eq(led(), true))).await,
            Self::Reject => {
                let tcp = rule().then(Match::eq(Field::L4Proto, TCP));
                try_rule(host, tcp.then(Stmt::Reject(Reject::TcpReset))).await
            }
            Self::Nat => {
                let to = translate_to_found(Family::Ip, NatStatement::dnat(any))?;
                try_rule(host, to.into_iter().fold(rule().then(address(Register::R0)), RuleSpec::then)).await
            }
            Self::Masq => try_rule(host, rule().then(Stmt::Masquerade)).await,
            Self::Numgen => {
                let dreg = Register::R0;
                try_rule(host, rule().then(Expr::Numgen { dreg, kind: numgen, modulus, offset })).await
            }
            Self::Hash => {
                let caller = Register::Reg32_08;
                let hash = Expr::Hash {
                    dreg: Register::R0,
                    kind: HashKind::Jenkins,
                    sreg: Some(caller),
                    len: ADDRESS,
                    modulus,
                    seed: Some(0),
                    offset,
                };
                try_rule(host, rule().then(address(caller)).then(hash)).await
            }
            Self::Veth => try_link(host, VethLink::new(LINK, "mgvtrialend")).await,
            Self::Vxlan => try_link(host, VxlanLink::new(LINK, 1)).await,
            Self::Tun => Ok(OpenOptions::new().read(true).write(true).open(DEVICE).map(drop)?),
        }
    }
}

async fn try_rule(host: &Netns, rule: RuleSpec) -> nlink::Result<()> {
    try_chain(host, None, Some(rule)).await
}

async fn try_chain(host: &Netns, base: Option<BaseChain>, rule: Option<RuleSpec>) -> nlink::Result<()> {
    let nftables = Connection::<Nftables>::new_in(host)?;
    let chain = Chain::new(TABLE, CHAIN)?.family(Family::Inet);
    let chain = base.into_iter().fold(chain, Chain::base);
    let transaction = nftables.transaction().add_table(TABLE, Family::Inet).add_chain(chain);
    let rules = rule.map(|rule| Rule::from_spec(TABLE, CHAIN, rule).family(Family::Inet));
    let transaction = rules.into_iter().fold(transaction, Transaction::add_rule);
    transaction.del_table(TABLE, Family::Inet).commit(&nftables).await
}

async fn try_link(host: &Netns, link: impl LinkConfig) -> nlink::Result<()> {
    let route = Connection::<Route>::new_in(host)?;
    // Of one that was killed just here.
    route.del_link_if_exists(LINK).await?;
    route.add_link(link).await?;
    route.del_link(LINK).await
}

/// Tries out all there must be.
///
/// # Errors
/// Names all that is missing, or what else kept it from looking.
pub(super) async fn check(host: &Netns) -> Result<(), DatapathError> {
    let mut missing = Vec::new();
    for need in Need::ALL {
        if missing.contains(&Need::NfTables) && need.module().starts_with("nft_") {
            // A part of what is missing.
            continue;
        }
        match need.try_out(host).await {
            Ok(()) => {}
            Err(error) if is_a_lack(&error) => missing.push(need),
            Err(error) => {
                let module = need.module();
                let action =
                    format!("look whether the kernel has {module}, which needs root (CAP_NET_ADMIN)");
                return Err(DatapathError::from_attempt(action)(error));
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(refusal(&missing)) }
}

/// Whether there can be passages (`passages`). A kernel without does the same by its rules alone.
///
/// # Errors
/// When something else kept it from looking.
pub(super) async fn has_passages(host: &Netns) -> Result<bool, DatapathError> {
    let trial = async {
        let nftables = Connection::<Nftables>::new_in(host)?;
        let hook = |hook| BaseChain::filter(hook, Priority::Filter);
        let chain =
            |name, hook| Ok::<_, nlink::Error>(Chain::new(TABLE, name)?.family(Family::Netdev).base(hook));
        let zero = Expr::Immediate { dreg: Register::R0, data: vec![0; 4] };
        let forward = RuleSpec::new().then(zero).then(Expr::Fwd { sreg_dev: Register::R0, sreg_addr: None });
        nftables
            .transaction()
            .add_table(TABLE, Family::Netdev)
            .add_chain(chain(CHAIN, hook(FilterHook::ingress("lo")))?)
            .add_chain(chain("egress", hook(FilterHook::egress("lo")))?)
            .add_rule(Rule::from_spec(TABLE, CHAIN, forward).family(Family::Netdev))
            .del_table(TABLE, Family::Netdev)
            .commit(&nftables)
            .await
    };
    match trial.await {
        Ok(()) => Ok(true),
        Err(error) if is_a_lack(&error) => {
            tracing::info!(
                "all packets go by the rules, as the kernel lacks nft_fwd_netdev or chains that hook into egress"
            );
            Ok(false)
        }
        Err(error) => Err(DatapathError::from_attempt("look whether the kernel has nft_fwd_netdev")(error)),
    }
}

/// What a kernel says to what it has never heard of.
fn is_a_lack(error: &nlink::Error) -> bool {
    let never_heard =
        [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT];
    error.errno().is_some_and(|errno| never_heard.iter().any(|one| one.raw_os_error() == errno))
}

fn refusal(missing: &[Need]) -> DatapathError {
    let told: Vec<String> =
        missing.iter().map(|need| format!("{} ({})", need.module(), need.purpose())).collect();
    let modules: Vec<&str> = missing.iter().map(|need| need.module()).collect();
    let source = format!(
        "it lacks {}; load that by `modprobe -a {}`, or use a kernel that has it, or run NodeEngine without -n",
        told.join(", "),
        modules.join(" ")
    );
    DatapathError::from_attempt("carry traffic with this kernel")(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_all_that_is_missing_and_what_to_do() {
        let refused = refusal(&[Need::Numgen, Need::Vxlan]);
        assert_eq!(
            daemon::chain(&refused).to_string(),
            "cannot carry traffic with this kernel: it lacks nft_numgen (calls to instances in turn), vxlan (links \
             within a trusted site); load that by `modprobe -a nft_numgen vxlan`, or use a kernel that has it, or run \
             NodeEngine without -n"
        );
    }
}
