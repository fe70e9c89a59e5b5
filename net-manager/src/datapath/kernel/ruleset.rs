//! Our table: rules that never change, and sets and maps whose entries do (`elements`).
//!
//! In the words of nft:
//!
//! ```text
//! table inet mangrove {
//!   chain guard       { type filter hook prerouting priority raw
//!     iifname "mgv*" goto source
//!     udp dport 50104 notrack }                                         # what is inside is a connection, not this
//!   chain source {
//!     fib saddr . iif oif exists accept                                 # who sends is led to by where it came from
//!     iifname "mgvsecure" fib saddr oifname "mgvkernel" accept          # of encrypted links by either carrier
//!     iifname "mgvkernel" fib saddr oifname "mgvsecure" accept
//!     drop }
//!   chain direct      { type filter hook output priority raw
//!     udp dport 50104 notrack }
//!   chain input       { type filter hook input priority filter
//!     udp dport 50104 goto site
//!     iifname "mgv*" ip daddr 127.0.0.0/8 ct direction reply accept     # curl http://127.0.0.1:8080
//!     iifname "mgv*" ip daddr 127.0.0.0/8 drop                          # what the device offers to itself
//!     ip daddr 169.254.1.1 iifname != "mgv*" iifname != "lo" drop }     # names are told to instances only
//!   chain site        { ip saddr @peers4 accept; ip6 saddr @peers6 accept; drop }
//!   chain forward     { type filter hook forward priority filter        # and `local`, the same for the device itself
//!     …                                                                 # only `forward`: `passages`
//!     ct status assured accept                                          # these four not in `local`; most packets
//!     tcp flags syn jump narrow
//!     ct state established,related meta l4proto != ipv6-icmp accept     # judged at their first packet
//!     ct state established,related ct direction reply accept            # pings by IPv6: at each
//!     ip  daddr 10.30.0.0/15 ip  daddr != @known4 goto nobody           # is not waited for
//!     ip6 daddr fdff::/16    ip6 daddr != @known6 goto nobody
//!     … }                                                               # only `forward`: `isolation`
//!   chain narrow      { oifname "mgvsecure" tcp option maxseg size set rt mtu; the same for mgvkernel and mgvdirect6 }
//!   chain nobody      { reject with tcp reset; reject }
//!   chain prerouting  { type nat hook prerouting priority dstnat
//!     ip daddr 169.254.1.1 accept                                       # whatever ports are mapped
//!     dnat ip  to ip  daddr map @single4                                # services with one instance
//!     dnat ip6 to ip6 daddr map @single6
//!     ip  daddr vmap @spread4                                           # services with several (`spread`)
//!     ip6 daddr vmap @spread6
//!     dnat ip  to ip  daddr map @single4                                # of several one was left between the lookups
//!     dnat ip6 to ip6 daddr map @single6
//!     iifname "mgv*" ip daddr 127.0.0.0/8 drop                          # nor by a port
//!     meta nfproto ipv4 fib daddr type local dnat ip  to meta l4proto . th dport map @ports4
//!     meta nfproto ipv6 fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6 }
//!   chain output      { type nat hook output priority dstnat; the same, but no drop, and ports not for ::1 }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     oifname "mgv*" ip saddr 127.0.0.0/8 masquerade                    # curl http://127.0.0.1:8080
//!     oifname "mgv*" snat ip to ip saddr map @guests4                   # a copy without the address it will have
//!     oifname "mgv*" snat ip6 to ip6 saddr map @guests6
//!     oifname "mgv*" ip saddr . ip daddr @self4 masquerade              # an instance that calls its own port
//!     oifname "mgv*" ip6 saddr . ip6 daddr @self6 masquerade
//!     oifname != "mgv*" oifname != "lo" ip saddr @subnets4 masquerade
//!     oifname != "mgv*" oifname != "lo" ip6 saddr @subnets6 masquerade }
//! }
//! ```
//!
//! Every expression costs every packet, and names of interfaces cost most. So chains that see packets of known connections
//! end for them after the first rule; an address is judged in `guard` all the same, as anybody can write what belongs to a
//! connection of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_core::NAME_SERVER;
use nlink::netlink::{
    Connection, Nftables,
    nftables::{
        BaseChain, ChainName, CmpOp, CtDirection, CtState, CtStatus, Expr, Family, FibFlags, FibResult,
        Field, FilterHook, IcmpxCode, LookupExpr, Match, MetaKey, NatHook, NatStatement, PacketField,
        PayloadBase, Priority, Register, Reject, RuleSpec, Stmt, TcpFlags, Value, Verdict,
        config::{DeclaredSetBuilder, DeclaredTableBuilder, NftablesConfig, SetElementMode, TableMode},
    },
    types::route::RouteType,
};

use super::{
    direct::{NAME_V6, STABLE_V4, STABLE_V6},
    isolation, link_prefix, passages,
    sets::SetName,
    spread::translate_to_found,
    wireguard,
};
use crate::{datapath::DatapathError, secure::INTERFACE};

/// The name of our table, of family inet.
pub(super) const TABLE: &str = "mangrove";
/// The chain of what says how much TCP may send.
const NARROW: &str = "narrow";
/// The chain of what goes to nobody.
const NOBODY: &str = "nobody";
/// The chain of what comes from instances and over links.
const SOURCE: &str = "source";
/// The chain of what comes by the port of direct links.
const SITE: &str = "site";
/// As long as the kernel takes names of interfaces for, with what ends them.
const INTERFACE_NAME: usize = 16;
/// Its number in IP headers.
pub(super) const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Makes the table as declared in one transaction, and that of passages if there are to be any; entries of sets stay.
pub(super) async fn install(nftables: &Connection<Nftables>, passages: bool) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("install the nftables table inet mangrove");
    let difference = declare(passages).map_err(failed())?.diff(nftables).await.map_err(failed())?;
    let changes = difference.apply(nftables).await.map_err(failed())?;
    tracing::info!(changes, "the nftables table inet mangrove is in place");
    Ok(())
}

/// The table as it should be, and that of passages.
pub(super) fn declare(passages: bool) -> nlink::Result<NftablesConfig> {
    let destination_v4 = map_destination(IpVersion::V4)?;
    let destination_v6 = map_destination(IpVersion::V6)?;
    let (services, guests) = (services()?, guests()?);
    let goto = |chain| Ok::<_, nlink::Error>(Verdict::GotoTo(ChainName::new(chain)?));
    let (refuse, source, site) = (goto(NOBODY)?, goto(SOURCE)?, goto(SITE)?);
    let narrow = Verdict::JumpTo(ChainName::new(NARROW)?);
    let sample = if passages { Some(passages::sample()?) } else { None };
    let config = if passages { passages::declare(NftablesConfig::new()) } else { NftablesConfig::new() };
    Ok(config.table(TABLE, Family::Inet, |table| {
        // The chains of services come and go (`spread`).
        let table = table.mode(TableMode::Shared);
        let table = SetName::ALL.into_iter().fold(table, declare_set);
        let table = isolation::declare(forward(input(guard(table, source), site), sample, narrow, &refuse));
        let table = table
            .chain("prerouting", |chain| chain.base(BaseChain::nat(NatHook::Prerouting, Priority::DstNat)))
            .chain("output", |chain| chain.base(BaseChain::nat(NatHook::Output, Priority::DstNat)));
        let table = ["prerouting", "output"].into_iter().fold(table, |table, chain| {
            let table = table.push_rule_keyed(chain, "names", to_name_server().then(Verdict::Accept));
            services.iter().fold(table, |table, (key, rule)| table.push_rule_keyed(chain, *key, rule.clone()))
        });
        let table = table
            .push_rule_keyed("prerouting", "loopback", to_loopback().then(Verdict::Drop))
            .push_rule_keyed("prerouting", "ports-4", to_this_device(IpVersion::V4, &destination_v4))
            .push_rule_keyed("prerouting", "ports-6", to_this_device(IpVersion::V6, &destination_v6))
            .push_rule_keyed("output", "ports-4", to_this_device(IpVersion::V4, &destination_v4))
            .push_rule_keyed("output", "ports-6", except_loopback_v6(&destination_v6));
        postrouting(table, guests)
    }))
}

fn declare_set(table: DeclaredTableBuilder, name: SetName) -> DeclaredTableBuilder {
    table.set(name.as_str(), |set: DeclaredSetBuilder| {
        // Entries come and go with instances and are compared by `net_core::reconcile`.
        let set = set.key_type(name.key_type()).element_mode(SetElementMode::Ensure);
        let set = if name.is_interval() { set.interval() } else { set };
        match name.data_type() {
            Some(data) => set.map(data),
            None => set,
        }
    })
}

fn guard(table: DeclaredTableBuilder, source: Verdict) -> DeclaredTableBuilder {
    // Link-local sources lead nowhere, so neither advertisements of a router nor redirects are heard.
    let led_back = RuleSpec::new()
        .then(Match::eq(Field::Fib { flags: FibFlags::SADDR | FibFlags::IIF, result: FibResult::Oif }, true))
        .then(Verdict::Accept);
    // Of an encrypted link each end decides what carries what it sends; from either it may come.
    let by_either = |interface, other| {
        let rule = RuleSpec::new().then(Match::eq(Field::Iifname, interface));
        led_by(other).into_iter().fold(rule, RuleSpec::then).then(Verdict::Accept)
    };
    // Of each connection within, both directions would be connections of their own, on both devices.
    let direct = || RuleSpec::new().then(Match::eq(Field::UdpDport, super::direct::PORT)).then(Stmt::Notrack);
    table
        .chain(SOURCE, |chain| chain)
        .push_rule_keyed(SOURCE, "led-back", led_back)
        .push_rule_keyed(SOURCE, "engine", by_either(INTERFACE, wireguard::NAME))
        .push_rule_keyed(SOURCE, "kernel", by_either(wireguard::NAME, INTERFACE))
        .push_rule_keyed(SOURCE, "drop", RuleSpec::new().then(Verdict::Drop))
        .chain("guard", |chain| chain.base(BaseChain::filter(FilterHook::Prerouting, Priority::Raw)))
        .push_rule_keyed("guard", "source", from_instance().then(source))
        .push_rule_keyed("guard", "direct", direct())
        .chain("direct", |chain| chain.base(BaseChain::filter(FilterHook::Output, Priority::Raw)))
        .push_rule_keyed("direct", "direct", direct())
}

/// `fib saddr oifname interface`, which the library compares with numbers of interfaces only.
fn led_by(interface: &str) -> [Expr; 2] {
    let mut name = interface.as_bytes().to_vec();
    name.resize(INTERFACE_NAME, 0);
    [
        Expr::Fib { dreg: Register::R0, result: FibResult::OifName, flags: FibFlags::SADDR },
        Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data: name },
    ]
}

/// What the device itself is asked.
fn input(table: DeclaredTableBuilder, site: Verdict) -> DeclaredTableBuilder {
    let direct = RuleSpec::new().then(Match::eq(Field::UdpDport, super::direct::PORT)).then(site);
    let peer = |field: Field, peers: SetName| {
        RuleSpec::new().then(Match::eq(field, Value::set(peers.as_str()))).then(Verdict::Accept)
    };
    let answer = to_loopback().then(Match::eq(Field::CtDirection, CtDirection::Reply)).then(Verdict::Accept);
    table
        .chain(SITE, |chain| chain)
        .push_rule_keyed(SITE, "peer-4", peer(Field::Ip4Saddr, SetName::Peers4))
        .push_rule_keyed(SITE, "peer-6", peer(Field::Ip6Saddr, SetName::Peers6))
        .push_rule_keyed(SITE, "stranger", RuleSpec::new().then(Verdict::Drop))
        .chain("input", |chain| chain.base(BaseChain::filter(FilterHook::Input, Priority::Filter)))
        .push_rule_keyed("input", "direct", direct)
        .push_rule_keyed("input", "answer", answer)
        .push_rule_keyed("input", "loopback", to_loopback().then(Verdict::Drop))
        .push_rule_keyed("input", "names", names_from_outside())
}

/// From an instance to what the device offers to itself.
fn to_loopback() -> RuleSpec {
    from_instance()
        .then(Match::eq(Field::Ip4Daddr, Value::Prefix(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)))
}

/// What goes on at once, how much narrow links carry, and addresses of services and instances that nobody has.
fn forward(
    table: DeclaredTableBuilder,
    sample: Option<RuleSpec>,
    narrow: Verdict,
    refuse: &Verdict,
) -> DeclaredTableBuilder {
    let unknown = |field: Field, (net, length): (IpAddr, u8), known: SetName| {
        RuleSpec::new()
            .then(Match::eq(field.clone(), Value::Prefix(net, length)))
            .then(Match::ne(field, Value::set(known.as_str())))
            .then(refuse.clone())
    };
    let (v4, v6) = ((IpAddr::V4(STABLE_V4.0), STABLE_V4.1), (IpAddr::V6(STABLE_V6.0), STABLE_V6.1));
    let rules = [
        ("nobody-4", unknown(Field::Ip4Daddr, v4, SetName::Known4)),
        ("nobody-6", unknown(Field::Ip6Daddr, v6, SetName::Known6)),
    ];
    // An instance thinks that 1450 bytes go everywhere.
    let clamp = |interface: &str| {
        RuleSpec::new()
            .then(Match::eq(Field::Oifname, interface))
            .then(Match::eq(Field::L4Proto, TCP))
            .then(Stmt::ClampTcpMssToPmtu)
    };
    let tcp = Match::eq(Field::L4Proto, TCP);
    let unreachable = Reject::Icmpx(IcmpxCode::HostUnreachable);
    let rule = RuleSpec::new;
    let connects = rule().then(Match::eq(Field::TcpFlags, TcpFlags::SYN)).then(narrow);
    // Connections of addresses that go, or that are no longer allowed, are forgotten (`connections`).
    let assured = rule().then(Match::eq(Field::CtStatus, CtStatus::ASSURED)).then(Verdict::Accept);
    let known = || rule().then(Match::eq(Field::CtState, CtState::ESTABLISHED | CtState::RELATED));
    let judged = known().then(Match::ne(Field::L4Proto, ICMPV6)).then(Verdict::Accept);
    let answer = known().then(Match::eq(Field::CtDirection, CtDirection::Reply)).then(Verdict::Accept);
    let table = table
        .chain(NARROW, |chain| chain)
        .push_rule_keyed(NARROW, "narrow", clamp(INTERFACE))
        .push_rule_keyed(NARROW, "narrow-kernel", clamp(wireguard::NAME))
        .push_rule_keyed(NARROW, "narrow-6", clamp(NAME_V6))
        .chain(NOBODY, |chain| chain)
        .push_rule_keyed(NOBODY, "reset", RuleSpec::new().then(tcp).then(Stmt::Reject(Reject::TcpReset)))
        .push_rule_keyed(NOBODY, "reject", RuleSpec::new().then(Stmt::Reject(unreachable)))
        .chain("forward", |chain| chain.base(BaseChain::filter(FilterHook::Forward, Priority::Filter)));
    let table = match sample {
        Some(sample) => passages::label(table).push_rule_keyed("forward", "sample", sample),
        None => table,
    };
    let table = table
        .push_rule_keyed("forward", "assured", assured)
        .push_rule_keyed("forward", "connects", connects)
        .push_rule_keyed("forward", "judged", judged)
        .push_rule_keyed("forward", "answer", answer)
        .chain("local", |chain| chain.base(BaseChain::filter(FilterHook::Output, Priority::Filter)));
    ["forward", "local"].into_iter().fold(table, |table, chain| {
        rules.iter().fold(table, |table, (key, rule)| table.push_rule_keyed(chain, *key, rule.clone()))
    })
}

fn to_name_server() -> RuleSpec {
    RuleSpec::new().then(Match::eq(Field::Ip4Daddr, IpAddr::V4(NAME_SERVER)))
}

fn names_from_outside() -> RuleSpec {
    to_name_server()
        .then(Match::ne(Field::Iifname, Value::NamePrefix(link_prefix().to_owned())))
        .then(Match::ne(Field::Iifname, "lo"))
        .then(Verdict::Drop)
}

/// Connections to services go to instances.
fn services() -> nlink::Result<Vec<(&'static str, RuleSpec)>> {
    let single = |nfproto: u8, family, offset, len, any, map: SetName| -> nlink::Result<RuleSpec> {
        let rule = RuleSpec::new()
            .then(Match::eq(Field::NfProto, nfproto))
            .then(Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset, len })
            .then(Expr::Lookup(LookupExpr::new(map.as_str(), Register::R0).dreg(Register::R0)));
        Ok(translate_to_found(family, NatStatement::dnat(any))?.into_iter().fold(rule, RuleSpec::then))
    };
    let spread = |key: PacketField, map: SetName| {
        RuleSpec::new().then(Stmt::Vmap { key: key.into(), map: map.as_str().to_owned() })
    };
    let (any4, any6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    Ok(vec![
        ("single-4", single(2, Family::Ip, 16, 4, any4, SetName::Single4)?),
        ("single-6", single(10, Family::Ip6, 24, 16, any6, SetName::Single6)?),
        ("spread-4", spread(PacketField::Ip4Daddr, SetName::Spread4)),
        ("spread-6", spread(PacketField::Ip6Daddr, SetName::Spread6)),
        ("left-4", single(2, Family::Ip, 16, 4, any4, SetName::Single4)?),
        ("left-6", single(10, Family::Ip6, 24, 16, any6, SetName::Single6)?),
    ])
}

/// What guests send to others leaves as if the device sent it.
fn guests() -> nlink::Result<[(&'static str, RuleSpec); 2]> {
    let rule = |nfproto: u8, family, offset, len, any, map: SetName| -> nlink::Result<RuleSpec> {
        let rule = to_instance()
            .then(Match::eq(Field::NfProto, nfproto))
            .then(Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset, len })
            .then(Expr::Lookup(LookupExpr::new(map.as_str(), Register::R0).dreg(Register::R0)));
        Ok(translate_to_found(family, NatStatement::snat(any))?.into_iter().fold(rule, RuleSpec::then))
    };
    let (any4, any6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    Ok([
        ("guests-4", rule(2, Family::Ip, 12, 4, any4, SetName::Guests4)?),
        ("guests-6", rule(10, Family::Ip6, 8, 16, any6, SetName::Guests6)?),
    ])
}

fn postrouting(table: DeclaredTableBuilder, guests: [(&'static str, RuleSpec); 2]) -> DeclaredTableBuilder {
    let from_loopback = to_instance()
        .then(Match::eq(Field::Ip4Saddr, Value::Prefix(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)))
        .then(Stmt::Masquerade);
    let to_itself = |source, destination, set: SetName| {
        to_instance()
            .then(Match::eq(Field::Concat(vec![source, destination]), Value::set(set.as_str())))
            .then(Stmt::Masquerade)
    };
    let to_the_world = |source, set: SetName| {
        RuleSpec::new()
            .then(Match::ne(Field::Oifname, Value::NamePrefix(link_prefix().to_owned())))
            .then(Match::ne(Field::Oifname, "lo"))
            .then(Match::eq(source, Value::IntervalSet(set.as_str().to_owned())))
            .then(Stmt::Masquerade)
    };
    let self_v4 = to_itself(PacketField::Ip4Saddr, PacketField::Ip4Daddr, SetName::Self4);
    let self_v6 = to_itself(PacketField::Ip6Saddr, PacketField::Ip6Daddr, SetName::Self6);
    let table = table
        .chain("postrouting", |chain| chain.base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)))
        .push_rule_keyed("postrouting", "loopback", from_loopback);
    let table =
        guests.into_iter().fold(table, |table, (key, rule)| table.push_rule_keyed("postrouting", key, rule));
    table
        .push_rule_keyed("postrouting", "self-4", self_v4)
        .push_rule_keyed("postrouting", "self-6", self_v6)
        .push_rule_keyed("postrouting", "world-4", to_the_world(Field::Ip4Saddr, SetName::Subnets4))
        .push_rule_keyed("postrouting", "world-6", to_the_world(Field::Ip6Saddr, SetName::Subnets6))
}

fn from_instance() -> RuleSpec {
    RuleSpec::new().then(Match::eq(Field::Iifname, Value::NamePrefix(link_prefix().to_owned())))
}

fn to_instance() -> RuleSpec {
    RuleSpec::new().then(Match::eq(Field::Oifname, Value::NamePrefix(link_prefix().to_owned())))
}

#[derive(Debug, Clone, Copy)]
enum IpVersion {
    V4,
    V6,
}

fn to_this_device(version: IpVersion, destination: &[Expr]) -> RuleSpec {
    // `meta nfproto` as the kernel numbers it.
    let protocol: u8 = match version {
        IpVersion::V4 => 2,
        IpVersion::V6 => 10,
    };
    let local =
        Match::eq(Field::Fib { flags: FibFlags::DADDR, result: FibResult::AddrType }, RouteType::Local);
    let rule = RuleSpec::new().then(Match::eq(Field::NfProto, protocol)).then(local);
    destination.iter().cloned().fold(rule, RuleSpec::then)
}

/// IPv6 has no counterpart of `route_localnet`: what is sent from ::1 cannot leave by a cable. Untouched, it is refused
/// at once and clients that try `localhost` go on with 127.0.0.1.
fn except_loopback_v6(destination: &[Expr]) -> RuleSpec {
    let rule = RuleSpec::new().then(Match::ne(Field::Ip6Daddr, IpAddr::V6(Ipv6Addr::LOCALHOST)));
    let rest = to_this_device(IpVersion::V6, destination);
    rest.items().iter().cloned().fold(rule, RuleSpec::then)
}

/// `dnat to meta l4proto . th dport map @ports`. The library has no statement for it, so it is put together from
/// expressions: load the key, look it up, translate to the address and port found.
fn map_destination(version: IpVersion) -> nlink::Result<Vec<Expr>> {
    // Words of the register file: the key is two words; a found value begins where the key did, address first.
    let (set, family, address, port) = match version {
        IpVersion::V4 => (SetName::Ports4, Family::Ip, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Register::Reg32_01),
        IpVersion::V6 => (SetName::Ports6, Family::Ip6, IpAddr::V6(Ipv6Addr::UNSPECIFIED), Register::R1),
    };
    let mut expressions = vec![
        Expr::Meta { dreg: Register::R0, key: MetaKey::L4Proto },
        Expr::Payload { dreg: Register::Reg32_01, base: PayloadBase::Transport, offset: 2, len: 2 },
        Expr::Lookup(LookupExpr::new(set.as_str(), Register::R0).dreg(Register::R0)),
    ];
    // A translation to a fixed address ends in the expression wanted here, but for its registers.
    let fixed = RuleSpec::new().then(Stmt::Nat(NatStatement::dnat(address).port(1))).lower(family)?;
    for expression in fixed {
        if let Expr::NatRegs(mut translation) = expression {
            translation.addr = Some((Register::R0, Register::R0));
            translation.proto = Some((port, port));
            expressions.push(Expr::NatRegs(translation));
        }
    }
    Ok(expressions)
}
