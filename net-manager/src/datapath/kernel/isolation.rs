//! The rules that keep applications apart. What they look things up in is made by `net_core` (`isolation`).
//!
//! In the words of nft, at the end of chain `forward`, where only first packets of connections come:
//!
//! ```text
//!   iifname != "mgv*" accept                                         # from the world, or from the device
//!   oifname != "mgv*" accept                                         # to the world
//!   ct status dnat ip  daddr != 10.30.0.0/15 accept                  # through a port of the device
//!   ct status dnat ip6 daddr != fdff::/16    accept
//!   ip  daddr != 10.30.0.0/15 ip  daddr != @subnets4 accept          # the device that has it judges
//!   ip6 daddr != fdff::/16    ip6 daddr != @subnets6 accept
//!   ip  saddr map @members4, ip  daddr map @members4, in @admitted accept
//!   ip6 saddr map @members6, ip6 daddr map @members6, in @admitted accept
//!   ip  saddr 10.30.0.0/15 ip  saddr != @known4 drop                 # just started: it tries again and is known then
//!   ip6 saddr fdff::/16    ip6 saddr != @known6 drop
//!   reject with tcp reset
//!   reject with icmpx admin-prohibited
//! ```

use std::net::IpAddr;

use nlink::netlink::nftables::{
    CtStatus, Expr, Field, IcmpxCode, LookupExpr, Match, PayloadBase, Register, Reject, RuleSpec, Stmt,
    Value, Verdict, config::DeclaredTableBuilder,
};

use super::{
    direct::{STABLE_V4, STABLE_V6},
    link_prefix,
    ruleset::TCP,
    sets::SetName,
};

/// What is particular to a version of IP.
struct Version {
    nfproto: u8,
    source: Field,
    destination: Field,
    /// Where source and destination are in the header, and how long they are.
    offsets: [u32; 2],
    length: u32,
    stable: Value,
    subnets: SetName,
    members: SetName,
    known: SetName,
}

fn versions() -> [Version; 2] {
    [
        Version {
            nfproto: 2,
            source: Field::Ip4Saddr,
            destination: Field::Ip4Daddr,
            offsets: [12, 16],
            length: 4,
            stable: Value::Prefix(IpAddr::V4(STABLE_V4.0), STABLE_V4.1),
            subnets: SetName::Subnets4,
            members: SetName::Members4,
            known: SetName::Known4,
        },
        Version {
            nfproto: 10,
            source: Field::Ip6Saddr,
            destination: Field::Ip6Daddr,
            offsets: [8, 24],
            length: 16,
            stable: Value::Prefix(IpAddr::V6(STABLE_V6.0), STABLE_V6.1),
            subnets: SetName::Subnets6,
            members: SetName::Members6,
            known: SetName::Known6,
        },
    ]
}

/// Adds them.
pub(super) fn declare(table: DeclaredTableBuilder) -> DeclaredTableBuilder {
    const CHAIN: &str = "forward";
    let rule = RuleSpec::new;
    let ours = || Value::NamePrefix(link_prefix().to_owned());
    let mut table = table
        .push_rule_keyed(
            CHAIN,
            "from-others",
            rule().then(Match::ne(Field::Iifname, ours())).then(Verdict::Accept),
        )
        .push_rule_keyed(
            CHAIN,
            "to-others",
            rule().then(Match::ne(Field::Oifname, ours())).then(Verdict::Accept),
        );
    let keyed = [
        ["mapped-4", "beyond-4", "admitted-4", "early-4"],
        ["mapped-6", "beyond-6", "admitted-6", "early-6"],
    ];
    for (version, [mapped, beyond, admitted, early]) in versions().into_iter().zip(keyed) {
        let to_worker_range =
            |rule: RuleSpec| rule.then(Match::ne(version.destination.clone(), version.stable.clone()));
        let through_a_port = to_worker_range(rule().then(Match::eq(Field::CtStatus, CtStatus::DST_NAT)));
        let elsewhere = to_worker_range(rule()).then(Match::ne(
            version.destination.clone(),
            Value::IntervalSet(version.subnets.as_str().to_owned()),
        ));
        let unknown = rule()
            .then(Match::eq(version.source.clone(), version.stable.clone()))
            .then(Match::ne(version.source.clone(), Value::set(version.known.as_str())));
        table = table
            .push_rule_keyed(CHAIN, mapped, through_a_port.then(Verdict::Accept))
            .push_rule_keyed(CHAIN, beyond, elsewhere.then(Verdict::Accept))
            .push_rule_keyed(CHAIN, admitted, is_admitted(&version).then(Verdict::Accept))
            .push_rule_keyed(CHAIN, early, unknown.then(Verdict::Drop));
    }
    let reset = rule().then(Match::eq(Field::L4Proto, TCP)).then(Stmt::Reject(Reject::TcpReset));
    let prohibited = Reject::Icmpx(IcmpxCode::AdminProhibited);
    table.push_rule_keyed(CHAIN, "refuse-tcp", reset).push_rule_keyed(
        CHAIN,
        "refuse",
        rule().then(Stmt::Reject(prohibited)),
    )
}

/// What is found for an address is two words, its service and its application. With that of the source before that of
/// the destination, the application of the one and the service of the other lie side by side: they are the last key.
fn is_admitted(version: &Version) -> RuleSpec {
    let address = Register::R1;
    let found = [Register::R0, Register::Reg32_02];
    let rule = RuleSpec::new().then(Match::eq(Field::NfProto, version.nfproto));
    let rule = version.offsets.into_iter().zip(found).fold(rule, |rule, (offset, found)| {
        rule.then(Expr::Payload { dreg: address, base: PayloadBase::Network, offset, len: version.length })
            .then(Expr::Lookup(LookupExpr::new(version.members.as_str(), address).dreg(found)))
    });
    rule.then(Expr::Lookup(LookupExpr::new(SetName::Admitted.as_str(), Register::Reg32_01)))
}
