//! The only place that asks for effects.

use std::collections::BTreeSet;

use crate::{
    Chain, DesiredKernel, Effect, Element, Family, Isolation, LinkPlan, ObservedKernel, ObservedLink, Path,
    Place,
};

/// What must be done, in an order in which every step finds what it needs and nothing is sent where nobody is: the
/// device's addresses, new cables, then the ports that lead to them; and the other way round for what goes. A crash
/// between any two steps is put right by the next pass.
#[must_use]
pub fn reconcile(desired: &DesiredKernel, observed: &ObservedKernel) -> Vec<Effect> {
    let mut effects = Vec::new();
    if !observed.ruleset_intact {
        effects.push(Effect::InstallRuleset);
    }
    for (family, forward) in &observed.forward {
        if forward.docker_user == Some(false) {
            effects.push(Effect::OpenDockerUser(*family));
        }
    }
    let claimed = |subnet| observed.subnets.get(subnet) == Some(&true);
    let unclaimed = desired.subnets.iter().filter(|subnet| !claimed(subnet));
    effects.extend(unclaimed.map(|subnet| Effect::ClaimSubnet(*subnet)));
    if desired.names && !observed.names {
        effects.push(Effect::OfferNames);
    }
    let (leaves, others): (Vec<&LinkPlan>, Vec<&LinkPlan>) =
        desired.links.values().partition(|plan| leads_away(plan, observed.links.get(&plan.name)));
    for plan in others {
        push_link(&mut effects, plan, observed.links.get(&plan.name));
    }
    let superfluous_peers = push_kernel_peers(&mut effects, desired, observed);
    let superfluous = match &observed.secure {
        Some(there) => {
            if *there != desired.secure {
                effects.push(Effect::SetSecure(desired.secure.clone()));
            }
            push_paths(&mut effects, desired, observed)
        }
        // Without the interface of encrypted links nothing can be led over it; the rest can.
        None => {
            let possible = |path: &&Path| !matches!(path, Path::Through { .. });
            let paths = desired.paths.iter().filter(possible).copied().collect();
            let desired = DesiredKernel { paths, direct: desired.direct, ..DesiredKernel::default() };
            push_paths(&mut effects, &desired, observed)
        }
    };
    push_elements(&mut effects, desired, observed);
    if !observed.isolated || effects.iter().any(Effect::restricts) {
        effects.push(Effect::EndForbidden(Isolation::of(&desired.elements)));
    }
    if !superfluous.is_empty() {
        effects.push(Effect::ChangePaths { remove: superfluous, add: BTreeSet::new() });
    }
    effects.extend(superfluous_peers);
    effects.extend(leaves.into_iter().cloned().map(Effect::RepairLink));
    for (name, link) in &observed.links {
        if !desired.links.contains_key(name) {
            let addresses = link.routes.keys().copied().collect();
            effects.push(Effect::RemoveLink { name: name.clone(), addresses });
        }
    }
    let unwanted = observed.subnets.keys().filter(|subnet| !desired.subnets.contains(subnet));
    effects.extend(unwanted.map(|subnet| Effect::ReleaseSubnet(*subnet)));
    if observed.names && !desired.names {
        effects.push(Effect::WithdrawNames);
    }
    effects
}

fn push_elements(effects: &mut Vec<Effect>, desired: &DesiredKernel, observed: &ObservedKernel) {
    let remove: BTreeSet<Element> = observed.elements.difference(&desired.elements).copied().collect();
    let add: BTreeSet<Element> = desired.elements.difference(&observed.elements).copied().collect();
    let close: BTreeSet<Chain> = observed.chains.difference(&desired.chains).copied().collect();
    let open: BTreeSet<Chain> = desired.chains.difference(&observed.chains).copied().collect();
    let change = |remove, add, close, open| Effect::ChangeElements { remove, add, close, open };
    // A packet that is on its way through the rules finds those of a chain that was there when it came.
    if !open.is_empty() {
        effects.push(change(BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), open));
    }
    if !remove.is_empty() || !add.is_empty() || !close.is_empty() {
        effects.push(change(remove, add, close, BTreeSet::new()));
    }
}

/// The ends the kernel's own WireGuard knows. The answer takes away those of them that may go, once nothing is led there any
/// more.
fn push_kernel_peers(
    effects: &mut Vec<Effect>,
    desired: &DesiredKernel,
    observed: &ObservedKernel,
) -> Option<Effect> {
    let there = observed.kernel_peers.as_ref()?;
    let wanted = &desired.kernel_peers;
    if wanted.iter().any(|(key, peer)| there.get(key) != Some(peer)) {
        let both = there.iter().chain(wanted).map(|(key, peer)| (*key, peer.clone())).collect();
        effects.push(Effect::SetKernelPeers(both));
    }
    let is_more = there.keys().any(|key| !wanted.contains_key(key));
    is_more.then(|| Effect::SetKernelPeers(wanted.clone()))
}

/// The link to other devices and what leads over it. The answer is what may go once nothing is led there any more.
fn push_paths(
    effects: &mut Vec<Effect>,
    desired: &DesiredKernel,
    observed: &ObservedKernel,
) -> BTreeSet<Path> {
    let mut there = &observed.paths;
    let none = BTreeSet::new();
    match desired.direct {
        Some(link) if observed.direct != Some(link) => {
            effects.push(Effect::OpenDirect(link));
            there = &none;
        }
        None if observed.direct.is_some() => {
            effects.push(Effect::CloseDirect);
            there = &none;
        }
        Some(_) | None => {}
    }
    let add: BTreeSet<Path> = desired.paths.difference(there).copied().collect();
    let places: BTreeSet<Place> = add.iter().map(Path::place).collect();
    let is_replaced = |path: &Path| places.contains(&path.place());
    let (remove, superfluous) = there.difference(&desired.paths).copied().partition(is_replaced);
    if !add.is_empty() {
        effects.push(Effect::ChangePaths { remove, add });
    }
    superfluous
}

/// Whether addresses that lead into the cable are to lead elsewhere: there first.
fn leads_away(plan: &LinkPlan, observed: Option<&ObservedLink>) -> bool {
    let routes = plan.routes();
    observed.is_some_and(|link| {
        link.mark == plan.mark() && link.routes.keys().any(|address| !routes.contains_key(address))
    })
}

fn push_link(effects: &mut Vec<Effect>, plan: &LinkPlan, observed: Option<&ObservedLink>) {
    match observed {
        Some(link) if *link == ObservedLink::as_planned(plan) => {}
        Some(link) if link.mark == plan.mark() => effects.push(Effect::RepairLink(plan.clone())),
        // It leads into a namespace of before, or its making was cut short.
        Some(link) => {
            let addresses = link.routes.keys().copied().collect();
            effects.push(Effect::RemoveLink { name: plan.name.clone(), addresses });
            effects.push(Effect::CreateLink(plan.clone()));
        }
        None => effects.push(Effect::CreateLink(plan.clone())),
    }
}

/// Other programs' rules that stand between instances and the world, each with what to do about it.
#[must_use]
pub fn forward_warnings(observed: &ObservedKernel) -> Vec<String> {
    observed
        .forward
        .iter()
        .filter(|(_, forward)| forward.docker_user.is_none())
        .filter_map(|(family, forward)| {
            let chain = forward.drops.as_ref()?;
            let family = match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            };
            Some(format!(
                "the firewall chain `{chain}` drops forwarded {family} packets unless a rule of its own accepts them; \
                 if instances do not reach other hosts, accept interfaces `mgv*` there"
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use addressing::InstanceAddresses;
    use ipnet::IpNet;
    use model::{InstanceId, Protocol, ServiceId};

    use super::*;
    use crate::{ForwardFilter, LinkName, Namespace};

    fn pair(v4: &str, v6: &str) -> InstanceAddresses {
        InstanceAddresses { v4: v4.parse().expect("v4"), v6: v6.parse().expect("v6") }
    }

    fn plan(inode: u64) -> LinkPlan {
        let instance = InstanceId { service: ServiceId::from_bytes([1; 12]), number: 0 };
        LinkPlan {
            name: LinkName::of(instance),
            instance,
            namespace: Namespace { path: "/proc/1/ns/net".to_owned(), inode },
            addresses: pair("10.18.0.2", "fc00::2"),
            stable: None,
            at_home: true,
            gateway: pair("10.18.0.1", "fc00::1"),
        }
    }

    fn subnet() -> IpNet {
        "10.18.0.0/26".parse().expect("a network")
    }

    fn port() -> Element {
        Element::Port {
            protocol: Protocol::Tcp,
            host: 8080,
            to: "10.18.0.2:80".parse().expect("a socket address"),
        }
    }

    fn desired() -> DesiredKernel {
        DesiredKernel {
            elements: BTreeSet::from([Element::Subnet(subnet()), port()]),
            subnets: BTreeSet::from([subnet()]),
            links: BTreeMap::from([(plan(1).name, plan(1))]),
            ..DesiredKernel::default()
        }
    }

    fn change(remove: &[Element], add: &[Element]) -> Effect {
        Effect::ChangeElements {
            remove: remove.iter().copied().collect(),
            add: add.iter().copied().collect(),
            close: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    fn removal(plan: &LinkPlan) -> Effect {
        Effect::RemoveLink { name: plan.name.clone(), addresses: plan.routes().keys().copied().collect() }
    }

    /// The kernel after all that `desired` asks for was done to an empty one.
    fn settled(desired: &DesiredKernel) -> ObservedKernel {
        let mut kernel = ObservedKernel::default();
        for effect in reconcile(desired, &kernel.clone()) {
            kernel.after(&effect);
        }
        kernel
    }

    #[test]
    fn an_empty_kernel_gets_everything_with_ports_last() {
        assert_eq!(
            reconcile(&desired(), &ObservedKernel::default()),
            [
                Effect::InstallRuleset,
                Effect::ClaimSubnet(subnet()),
                Effect::CreateLink(plan(1)),
                change(&[], &[Element::Subnet(subnet()), port()]),
                Effect::EndForbidden(Isolation::default()),
            ]
        );
        assert_eq!(reconcile(&desired(), &settled(&desired())), []);
    }

    #[test]
    fn what_is_no_longer_wanted_goes_with_ports_first() {
        let nothing = DesiredKernel::default();
        assert_eq!(
            reconcile(&nothing, &settled(&desired())),
            [
                change(&[Element::Subnet(subnet()), port()], &[]),
                removal(&plan(1)),
                Effect::ReleaseSubnet(subnet()),
            ]
        );
    }

    #[test]
    fn a_cable_into_a_namespace_of_before_is_replaced() {
        let mut wanted = desired();
        wanted.links.insert(plan(2).name, plan(2));
        assert_eq!(
            reconcile(&wanted, &settled(&desired())),
            [removal(&plan(1)), Effect::CreateLink(plan(2))]
        );
    }

    #[test]
    fn a_damaged_cable_is_repaired_without_cutting_it() {
        let mut kernel = settled(&desired());
        kernel.links.get_mut(&plan(1).name).expect("it was made").routes.clear();
        assert_eq!(reconcile(&desired(), &kernel), [Effect::RepairLink(plan(1))]);
    }

    #[test]
    fn a_subnet_whose_gateway_is_missing_is_claimed_again() {
        let mut kernel = settled(&desired());
        kernel.subnets.insert(subnet(), false);
        assert_eq!(reconcile(&desired(), &kernel), [Effect::ClaimSubnet(subnet())]);
    }

    #[test]
    fn dockers_chain_is_opened_and_its_absence_told() {
        let mut kernel = settled(&desired());
        let drops = Some("ip filter FORWARD".to_owned());
        let closed = ForwardFilter { drops: drops.clone(), docker_user: Some(false) };
        kernel.forward = BTreeMap::from([(Family::V4, closed)]);
        assert_eq!(reconcile(&desired(), &kernel), [Effect::OpenDockerUser(Family::V4)]);
        assert_eq!(forward_warnings(&kernel), Vec::<String>::new());

        kernel.forward = BTreeMap::from([(Family::V4, ForwardFilter { drops, docker_user: None })]);
        assert_eq!(reconcile(&desired(), &kernel), []);
        assert_eq!(
            forward_warnings(&kernel),
            [
                "the firewall chain `ip filter FORWARD` drops forwarded IPv4 packets unless a rule of its own accepts \
              them; if instances do not reach other hosts, accept interfaces `mgv*` there"
            ]
        );
    }
}
