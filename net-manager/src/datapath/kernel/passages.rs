//! Passages: a packet of a TCP connection that was let through lately goes from one interface of ours to the next without being
//! looked at again by rules, by the tracking of connections or by routes. Whether it is let through is decided by the rules
//! alone (`ruleset`): of the packets they let through one in sixteen leaves a passage behind for those like it, and that is
//! good for a fifth of a second. So whatever is decided anew holds for all packets after that time. Packets that
//! begin or end a connection always go by the rules, and take away the passage there is: the last packets of a connection
//! are tracked, and one that begins from the same port may be led to somebody else.
//!
//! IPv6 goes by the rules: what a label would have to tell of its addresses is more than a packet has room for. In the words
//! of nft:
//!
//! ```text
//!   table inet mangrove {
//!     chain forward { numgen random mod 16 == 0 ct status assured tcp flags & (fin | syn | rst) == 0 jump label; … }
//!     chain label {                                # what the packet was when it came is written on it
//!       iifname != "mgv*" return; oifname != "mgv*" return
//!       iiftype != ether return;  oiftype != ether return               # encrypted links
//!       meta mark != 0 return; ct status snat return
//!       ct direction original ct original ip daddr 10.30.0.0/15
//!         meta mark set ct original ip daddr; meta priority set iif ^ 0x6d000000
//!       ct direction reply    ct original ip daddr 10.30.0.0/15
//!         meta mark set ct reply ip saddr;    meta priority set iif ^ 0x6e000000 }
//!   }
//!   table netdev mangrove {
//!     map passages { typeof iif . ip saddr . ip daddr . th ports : ip saddr . ip daddr . ether daddr . oif; timeout 200ms }
//!     chain in-mgv…  { type filter hook ingress device mgv…; meta protocol ip goto pass }
//!     chain pass     { tcp flags & (fin | syn | rst) == 0
//!                      ip saddr . ip daddr . ether daddr set iif . ip saddr . ip daddr . th ports map @passages fwd to oif
//!                      tcp flags & (fin | syn | rst) != 0 delete @passages { iif . ip saddr . ip daddr . th ports } }
//!     chain out-mgv… { type filter hook egress device mgv…; meta mark != 0 goto remember }
//!     chain remember { # the label is taken off again
//!       meta priority & 0xff000000 == 0x6d000000 add @passages { iif . ip saddr . mark     . th ports : … }
//!       meta priority & 0xff000000 == 0x6e000000 add @passages { iif . mark     . ip daddr . th ports : … } }
//!   }
//! ```
//!
//! Tracking sees some of the packets only, so it is told not to mind gaps (`sysctl`). What it keeps of a connection stays,
//! as some packets pass the rules in each fifth of a second.

use std::{collections::BTreeSet, time::Duration};

use nlink::netlink::{
    Connection, Nftables,
    nftables::{
        BaseChain, Chain, ChainInfo, ChainName, CmpOp, CtDirection, CtKey, CtStatus, DynsetExpr, DynsetOp,
        Expr, Family, Field, FilterHook, LookupExpr, Match, MetaKey, NumgenKind, PayloadBase, PayloadCsum,
        Priority, Register, Rule, RuleSpec, SetDataType, SetKeyType, Value, Verdict,
        config::{DeclaredSetBuilder, DeclaredTableBuilder, NftablesConfig, SetElementMode, TableMode},
    },
};

use super::{direct::STABLE_V4, link_prefix, ruleset::TCP};
use crate::datapath::DatapathError;

/// The name of the table of family netdev.
pub(super) const TABLE: &str = "mangrove";
const LABEL: &str = "label";
const REMEMBER: &str = "remember";
const MAP: &str = "passages";
const PASS: &str = "pass";
/// How long a passage is good for. Rules that change hold for known connections too after this time.
const GOOD_FOR: Duration = Duration::from_millis(200);
/// One in so many packets of known connections leaves a passage behind: more, and short connections would cost more than
/// without; fewer, and long ones would go by the rules longer.
const ONE_IN: u32 = 16;
/// So many connections at a time, counted for each direction; those that are too many go by the rules.
const MOST: u32 = 65_535;

/// `ARPHRD_ETHER`, as the kernel counts.
const ETHERNET: [u8; 2] = 1_u16.to_ne_bytes();
/// FIN, SYN and RST.
const BEGIN_OR_END: u8 = 0x07;
/// The highest byte of a label tells which of the two addresses was another one, the rest is the interface it came by. One
/// whose number is too high for it leaves no passages that fit.
const TAG: [u8; 4] = 0xff00_0000_u32.to_ne_bytes();
const INTERFACE: [u8; 4] = 0x00ff_ffff_u32.to_ne_bytes();
const NOTHING: [u8; 4] = [0; 4];

/// IPv4, as `meta nfproto` and as an Ethernet header tells it.
const NFPROTO: u8 = 2;
const ETHER_TYPE: [u8; 2] = 0x0800_u16.to_be_bytes();
/// Where the sender's address is in its header, with the receiver's right behind it, and how long each is.
const SOURCE: u32 = 12;
const ADDRESS: u32 = 4;

/// Which of a packet's addresses the rules replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Whom it is to: a service, then an instance of it.
    There,
    /// Whom it is from: an instance, then its service.
    Back,
}

impl Way {
    const BOTH: [Self; 2] = [Self::There, Self::Back];

    const fn tag(self) -> [u8; 4] {
        match self {
            Self::There => 0x6d00_0000_u32.to_ne_bytes(),
            Self::Back => 0x6e00_0000_u32.to_ne_bytes(),
        }
    }

    /// What its rules are known by.
    const fn key(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Back => "back",
        }
    }

    const fn direction(self) -> CtDirection {
        match self {
            Self::There => CtDirection::Original,
            Self::Back => CtDirection::Reply,
        }
    }
}

/// Registers of the key behind that of the interface: sender, receiver, ports.
const SENDER: Register = Register::Reg32_01;
const RECEIVER: Register = Register::Reg32_02;
const PORTS: Register = Register::Reg32_03;
/// Those of what is found: both addresses, the end of the receiver's MAC address, and the interface.
const NEW_ADDRESSES: Register = Register::R1;
const NEW_MAC: Register = Register::Reg32_06;
const NEW_INTERFACE: Register = Register::Reg32_07;
const R0: Register = Register::R0;
/// Behind the key and what is found for it.
const SPARE: Register = Register::R2;

fn rule_of(expressions: impl IntoIterator<Item = Expr>) -> RuleSpec {
    expressions.into_iter().fold(RuleSpec::new(), RuleSpec::then)
}

const fn meta(dreg: Register, key: MetaKey) -> Expr {
    Expr::Meta { dreg, key }
}

fn is(sreg: Register, data: &[u8]) -> Expr {
    Expr::Cmp { sreg, op: CmpOp::Eq, data: data.to_vec() }
}

fn is_not(sreg: Register, data: &[u8]) -> Expr {
    Expr::Cmp { sreg, op: CmpOp::Neq, data: data.to_vec() }
}

/// `dreg = (sreg & mask) ^ xor`.
fn masked(sreg: Register, dreg: Register, mask: [u8; 4], xor: [u8; 4]) -> Expr {
    Expr::Bitwise { sreg, dreg, len: 4, mask: mask.to_vec(), xor: xor.to_vec() }
}

/// Loads what is `offset` bytes into the header of IPv4.
const fn header(dreg: Register, offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg, base: PayloadBase::Network, offset, len }
}

/// Loads what of a TCP header says that a connection begins or ends.
fn flags() -> [Expr; 2] {
    [
        Expr::Payload { dreg: R0, base: PayloadBase::Transport, offset: 13, len: 1 },
        Expr::Bitwise { sreg: R0, dreg: R0, len: 1, mask: vec![BEGIN_OR_END], xor: vec![0] },
    ]
}

/// Source and destination port.
const fn ports() -> Expr {
    Expr::Payload { dreg: PORTS, base: PayloadBase::Transport, offset: 0, len: 4 }
}

/// The table of family inet, with what marks packets for passages; its chain `forward` does so by [`sample`].
pub(super) fn label(table: DeclaredTableBuilder) -> DeclaredTableBuilder {
    let ours = |field| Match::ne(field, Value::NamePrefix(link_prefix().to_owned()));
    let elsewhere = |field| RuleSpec::new().then(ours(field)).then(Verdict::Return);
    let unlike = |key| rule_of([meta(R0, key), is_not(R0, &ETHERNET)]).then(Verdict::Return);
    // Somebody else's mark stays.
    let marked = rule_of([meta(R0, MetaKey::Mark), is_not(R0, &NOTHING)]).then(Verdict::Return);
    let translated =
        RuleSpec::new().then(Match::eq(Field::CtStatus, CtStatus::SRC_NAT)).then(Verdict::Return);
    let table = table
        .chain(LABEL, |chain| chain)
        .push_rule_keyed(LABEL, "from", elsewhere(Field::Iifname))
        .push_rule_keyed(LABEL, "to", elsewhere(Field::Oifname))
        .push_rule_keyed(LABEL, "from-type", unlike(MetaKey::IifType))
        .push_rule_keyed(LABEL, "to-type", unlike(MetaKey::OifType))
        .push_rule_keyed(LABEL, "marked", marked)
        .push_rule_keyed(LABEL, "translated", translated);
    Way::BOTH.into_iter().fold(table, |table, way| table.push_rule_keyed(LABEL, way.key(), write_label(way)))
}

/// The rule that chooses which packets get a label.
pub(super) fn sample() -> nlink::Result<RuleSpec> {
    let one_in = Expr::Numgen { dreg: R0, kind: NumgenKind::Random, modulus: ONE_IN, offset: 0 };
    let [load, choose] = flags();
    Ok(rule_of([one_in, is(R0, &NOTHING)])
        .then(Match::eq(Field::CtStatus, CtStatus::ASSURED))
        .then(Match::eq(Field::L4Proto, TCP))
        .then(load)
        .then(choose)
        .then(is(R0, &[0]))
        .then(Verdict::JumpTo(ChainName::new(LABEL)?)))
}

fn write_label(way: Way) -> RuleSpec {
    let direction = way.direction();
    let tuple = |key, direction| Expr::CtDirectional { dreg: R0, key, direction };
    let (net, length) = STABLE_V4;
    let mask = (u32::MAX << (32 - u32::from(length))).to_be_bytes();
    let mut expressions = vec![
        tuple(CtKey::DstIp, CtDirection::Original),
        masked(R0, SPARE, mask, NOTHING),
        is(SPARE, &net.octets()),
    ];
    if way == Way::Back {
        expressions.push(tuple(CtKey::SrcIp, CtDirection::Reply));
    }
    expressions.extend([
        Expr::MetaSet { key: MetaKey::Mark, sreg: R0 },
        meta(R0, MetaKey::Iif),
        masked(R0, R0, INTERFACE, way.tag()),
        Expr::MetaSet { key: MetaKey::Priority, sreg: R0 },
    ]);
    let rule = RuleSpec::new()
        .then(Match::eq(Field::NfProto, NFPROTO))
        .then(Match::eq(Field::CtDirection, direction));
    expressions.into_iter().fold(rule, RuleSpec::then)
}

/// The table of family netdev, but for the chains of interfaces.
pub(super) fn declare(config: NftablesConfig) -> NftablesConfig {
    config.table(TABLE, Family::Netdev, |table| {
        // The chains of interfaces come and go (`hook`).
        let table = table
            .mode(TableMode::Shared)
            .set(MAP, declare_map)
            .chain(PASS, |chain| chain)
            .push_rule_keyed(PASS, "pass", pass())
            .push_rule_keyed(PASS, "close", close())
            .chain(REMEMBER, |chain| chain);
        Way::BOTH
            .into_iter()
            .fold(table, |table, way| table.push_rule_keyed(REMEMBER, way.key(), remember(way)))
    })
}

fn declare_map(set: DeclaredSetBuilder) -> DeclaredSetBuilder {
    let (interface, address) = (SetKeyType::IfIndex, SetKeyType::Ipv4Addr);
    // Four bytes of whatever there is.
    let four = SetKeyType::Mark;
    let key = vec![interface.clone(), address.clone(), address.clone(), four.clone()];
    let found = vec![address.clone(), address, four, interface];
    set.key_type(SetKeyType::Concat(key))
        .map(SetDataType::Value(SetKeyType::Concat(found)))
        .dynamic()
        .timeout(GOOD_FOR)
        .size(MOST)
        .element_mode(SetElementMode::Ensure)
}

/// Finds the passage of a TCP packet that begins or ends a connection, or that does not.
fn find(begins_or_ends: bool) -> Vec<Expr> {
    let [load, choose] = flags();
    vec![
        meta(R0, MetaKey::L4Proto),
        is(R0, &[TCP]),
        load,
        choose,
        if begins_or_ends { is_not(R0, &[0]) } else { is(R0, &[0]) },
        meta(R0, MetaKey::Iif),
        header(SENDER, SOURCE, 2 * ADDRESS),
        ports(),
        Expr::Lookup(LookupExpr::new(MAP, R0).dreg(NEW_ADDRESSES)),
    ]
}

/// Takes away the passage that a packet of before has left.
fn close() -> RuleSpec {
    // The kernel wants to know a value too.
    let delete = DynsetExpr::new(DynsetOp::Delete, MAP, R0).sreg_data(NEW_ADDRESSES).into();
    rule_of(find(true).into_iter().chain([delete]))
}

/// Takes the passage of a packet that has one.
fn pass() -> RuleSpec {
    let take = [
        Expr::PayloadSet {
            sreg: NEW_ADDRESSES,
            base: PayloadBase::Network,
            offset: SOURCE,
            len: 2 * ADDRESS,
            csum: PayloadCsum::Inet,
            csum_offset: 10,
            l4_pseudo_header: true,
        },
        // The MAC addresses of all our interfaces begin alike, and nobody looks at the sender's.
        Expr::PayloadSet {
            sreg: NEW_MAC,
            base: PayloadBase::LinkLayer,
            offset: 2,
            len: 4,
            csum: PayloadCsum::None,
            csum_offset: 0,
            l4_pseudo_header: false,
        },
        Expr::Fwd { sreg_dev: NEW_INTERFACE, sreg_addr: None },
    ];
    rule_of(find(false).into_iter().chain(take))
}

/// Makes the passage of packets like this one: its label tells what it was, the rest what it has become.
fn remember(way: Way) -> RuleSpec {
    let (replaced, kept) = match way {
        Way::There => (RECEIVER, header(SENDER, SOURCE, ADDRESS)),
        Way::Back => (SENDER, header(RECEIVER, SOURCE + ADDRESS, ADDRESS)),
    };
    rule_of([
        meta(R0, MetaKey::Protocol),
        is(R0, &ETHER_TYPE),
        meta(R0, MetaKey::Priority),
        masked(R0, SPARE, TAG, NOTHING),
        is(SPARE, &way.tag()),
        masked(R0, R0, INTERFACE, NOTHING),
        kept,
        meta(replaced, MetaKey::Mark),
        Expr::Immediate { dreg: SPARE, data: NOTHING.to_vec() },
        Expr::MetaSet { key: MetaKey::Mark, sreg: SPARE },
        Expr::MetaSet { key: MetaKey::Priority, sreg: SPARE },
        ports(),
        header(NEW_ADDRESSES, SOURCE, 2 * ADDRESS),
        Expr::Payload { dreg: NEW_MAC, base: PayloadBase::LinkLayer, offset: 2, len: 4 },
        meta(NEW_INTERFACE, MetaKey::Oif),
        DynsetExpr::new(DynsetOp::Add, MAP, R0).sreg_data(NEW_ADDRESSES).into(),
    ])
}

fn chains_of(interface: &str) -> [String; 2] {
    [format!("in-{interface}"), format!("out-{interface}")]
}

/// Packets that come and go by this interface may take and leave passages from now on.
pub(super) async fn hook(nftables: &Connection<Nftables>, interface: &str) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt(format!("let known connections pass {interface} at once"));
    // Of an interface of this name that is gone; old kernels take them away with it.
    unhook(nftables, interface).await?;
    let [coming, going] = chains_of(interface);
    let ingress = BaseChain::filter(FilterHook::ingress(interface), Priority::Filter);
    let egress = BaseChain::filter(FilterHook::egress(interface), Priority::Filter);
    let chain =
        |name: &str, base| Ok::<_, nlink::Error>(Chain::new(TABLE, name)?.family(Family::Netdev).base(base));
    let goto = |name: &str| Ok::<_, nlink::Error>(Verdict::GotoTo(ChainName::new(name)?));
    let mut transaction = nftables
        .transaction()
        .add_chain(chain(&coming, ingress).map_err(failed())?)
        .add_chain(chain(&going, egress).map_err(failed())?);
    let rules = [
        (coming, [meta(R0, MetaKey::Protocol), is(R0, &ETHER_TYPE)], PASS),
        (going, [meta(R0, MetaKey::Mark), is_not(R0, &NOTHING)], REMEMBER),
    ];
    for (chain, expressions, target) in rules {
        let rule = rule_of(expressions).then(goto(target).map_err(failed())?);
        transaction = transaction.add_rule(Rule::from_spec(TABLE, &chain, rule).family(Family::Netdev));
    }
    transaction.commit(nftables).await.map_err(failed())
}

/// The other way round; not an error where there is none.
pub(super) async fn unhook(nftables: &Connection<Nftables>, interface: &str) -> Result<(), DatapathError> {
    for chain in chains_of(interface) {
        let transaction = nftables.transaction().flush_chain(TABLE, &chain, Family::Netdev).del_chain(
            TABLE,
            &chain,
            Family::Netdev,
        );
        match transaction.commit(nftables).await {
            Err(error) if !error.is_not_found() => {
                return Err(DatapathError::from_attempt(format!("take the passages of {interface} away"))(
                    error,
                ));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The interfaces whose packets may take and leave passages.
pub(super) fn hooked(chains: &[ChainInfo]) -> BTreeSet<String> {
    let ours = chains.iter().filter(|chain| chain.table == TABLE && chain.family == Family::Netdev);
    let names: BTreeSet<&str> = ours.map(|chain| chain.name.as_str()).collect();
    let coming = names.iter().filter_map(|name| name.strip_prefix("in-"));
    let both =
        coming.filter(|interface| chains_of(interface).iter().all(|name| names.contains(name.as_str())));
    both.map(str::to_owned).collect()
}
