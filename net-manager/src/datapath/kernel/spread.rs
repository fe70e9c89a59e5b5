//! Chains that choose one of several instances for a new connection. Their names tell all that is in them
//! (`net_core::Chain`), so they are compared by name alone; which instances there are is in the map `backends4` or
//! `backends6`, by the address of the service and a number from zero.
//!
//! In the words of nft, for three instances in turn:
//!
//! ```text
//!   chain turn-10.30.0.7-3 {
//!     meta nfproto ipv4 dnat ip  to ip  daddr . numgen inc mod 3 map @backends4
//!     meta nfproto ipv6 dnat ip6 to ip6 daddr . numgen inc mod 3 map @backends6
//!     the same with numgen random mod 1                                 # its place has just gone
//! ```
//!
//! A packet that has come here does not meet the entries of one transaction only: where there are fewer from now on, the
//! number may be one that nobody has any more. Somebody has the first, or is the only one (`ruleset`).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use net_core::Chain;
use nlink::netlink::nftables::{
    Chain as TableChain, ChainInfo, Expr, Family, Field, HashKind, LookupExpr, Match, NatStatement,
    NumgenKind, PayloadBase, Register, Rule, RuleSpec, Stmt, Transaction,
};

use super::{ruleset::TABLE, sets::SetName};

/// Every device must lead a caller to the same instance.
const SEED: u32 = 0x006d_6776;

/// Those of our table's chains that are such.
pub(super) fn read(chains: &[ChainInfo]) -> BTreeSet<Chain> {
    let ours = chains.iter().filter(|chain| chain.table == TABLE && chain.family == Family::Inet);
    ours.filter_map(|chain| Chain::parse(&chain.name)).collect()
}

/// Adds chains to a transaction, before the entries that lead to them.
pub(super) fn open(mut transaction: Transaction, chains: &BTreeSet<Chain>) -> nlink::Result<Transaction> {
    for chain in chains {
        let name = chain.to_string();
        transaction = transaction.add_chain(TableChain::new(TABLE, name.as_str())?.family(Family::Inet));
        for chain in [*chain, Chain::Random { count: 1 }] {
            for version in [Version::V4, Version::V6] {
                let rule = Rule::from_spec(TABLE, &name, choose(chain, version)?).family(Family::Inet);
                transaction = transaction.add_rule(rule);
            }
        }
    }
    Ok(transaction)
}

/// Removes chains, after the entries that lead to them.
pub(super) fn close(mut transaction: Transaction, chains: &BTreeSet<Chain>) -> Transaction {
    for chain in chains {
        let name = chain.to_string();
        transaction =
            transaction.flush_chain(TABLE, &name, Family::Inet).del_chain(TABLE, &name, Family::Inet);
    }
    transaction
}

#[derive(Debug, Clone, Copy)]
enum Version {
    V4,
    V6,
}

/// Where things are in an IP header, and in which registers they and what follows them are put.
struct Layout {
    nfproto: u8,
    family: Family,
    map: SetName,
    source: u32,
    destination: u32,
    length: u32,
    /// Right behind the destination address, which is in the first register.
    number: Register,
    any: IpAddr,
}

impl Version {
    const fn layout(self) -> Layout {
        match self {
            Self::V4 => Layout {
                nfproto: 2,
                family: Family::Ip,
                map: SetName::Backends4,
                source: 12,
                destination: 16,
                length: 4,
                number: Register::Reg32_01,
                any: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            },
            Self::V6 => Layout {
                nfproto: 10,
                family: Family::Ip6,
                map: SetName::Backends6,
                source: 8,
                destination: 24,
                length: 16,
                number: Register::Reg32_04,
                any: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            },
        }
    }
}

fn choose(chain: Chain, version: Version) -> nlink::Result<RuleSpec> {
    let Layout { nfproto, family, map, source, destination, length, number, any } = version.layout();
    let mut rule = RuleSpec::new().then(Match::eq(Field::NfProto, nfproto));
    let modulus = chain.count();
    let chosen = match chain {
        Chain::Turn { .. } => {
            vec![Expr::Numgen { dreg: number, kind: NumgenKind::Incremental, modulus, offset: 0 }]
        }
        Chain::Random { .. } => {
            vec![Expr::Numgen { dreg: number, kind: NumgenKind::Random, modulus, offset: 0 }]
        }
        Chain::Hash { .. } => {
            let caller = Register::Reg32_08;
            let load =
                Expr::Payload { dreg: caller, base: PayloadBase::Network, offset: source, len: length };
            let hash = Expr::Hash {
                dreg: number,
                kind: HashKind::Jenkins,
                sreg: Some(caller),
                len: length,
                modulus,
                seed: Some(SEED),
                offset: 0,
            };
            vec![load, hash]
        }
    };
    for expression in chosen {
        rule = rule.then(expression);
    }
    let load =
        Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset: destination, len: length };
    let rule =
        rule.then(load).then(Expr::Lookup(LookupExpr::new(map.as_str(), Register::R0).dreg(Register::R0)));
    Ok(translate_to_found(family, NatStatement::dnat(any))?.into_iter().fold(rule, RuleSpec::then))
}

/// A translation like `any`, but to the address in the first register. The library has no statement for it: one to a fixed
/// address and port ends in the expression wanted here, but for its registers.
pub(super) fn translate_to_found(family: Family, any: NatStatement) -> nlink::Result<Option<Expr>> {
    let fixed = RuleSpec::new().then(Stmt::Nat(any.port(1))).lower(family)?;
    Ok(fixed.into_iter().find_map(|expression| {
        let Expr::NatRegs(mut translation) = expression else { return None };
        translation.addr = Some((Register::R0, Register::R0));
        translation.proto = None;
        Some(Expr::NatRegs(translation))
    }))
}
