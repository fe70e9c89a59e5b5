//! What a cluster may say to a NetManager.

use model::{Generation, InstanceId, StableAddress};
use net_core::{AttachRequest, Command, Names, Namespace, NetworkState, ObservedKernel, Wanted, reconcile};
use prost::Message;
use proto::{NetworkReader, v1};

use crate::shared;

pub(crate) fn take(data: &[u8]) {
    let mut state = NetworkState::default();
    let mut kernel = ObservedKernel::default();
    let mut reader = NetworkReader::default();
    for (choice, bytes) in shared::parts(data) {
        let Ok(Ok(said)) = v1::ClusterToNetwork::decode(bytes).map(|said| reader.read(said)) else {
            continue;
        };
        if let Some(lease) = said.lease {
            submit(&mut state, Command::UseLease(lease));
        }
        let attached = said.news.services.iter().find_map(|(id, service)| {
            let instance = service.as_ref()?.instances.first()?;
            Some((InstanceId { service: *id, number: instance.number }, instance.address))
        });
        if let Some((id, address)) = attached.filter(|_| choice & 1 == 1) {
            let namespace = Namespace { path: format!("/proc/{choice}/ns/net"), inode: choice.into() };
            let address = Some(address);
            let attach =
                AttachRequest { id, generation: Generation(1), namespace, ports: Vec::new(), address };
            submit(&mut state, Command::Attach(attach));
        }
        state.hear(said.news);
        converge(&state, &mut kernel);
        ask_for_all(&state);
    }
}

fn submit(state: &mut NetworkState, command: Command) {
    for change in state.accept(command).unwrap_or_default() {
        state.apply(change);
    }
}

/// What is asked for leads to where nothing is asked for.
fn converge(state: &NetworkState, kernel: &mut ObservedKernel) {
    let desired = state.desired();
    for effect in reconcile(&desired, &kernel.clone()) {
        kernel.after(&effect);
    }
    kernel.secure.get_or_insert_default();
    for effect in reconcile(&desired, &kernel.clone()) {
        kernel.after(&effect);
    }
    assert_eq!(reconcile(&desired, kernel), []);
}

fn ask_for_all(state: &NetworkState) {
    let names = Names::of(state.surroundings(), state.attachments());
    for service in state.surroundings().services.values() {
        let of = &service.names;
        let labels = [&of.service, &of.service_namespace, &of.application, &of.application_namespace];
        let labels = labels.into_iter().map(|label| label.as_bytes()).chain([&b"mangrove"[..]]);
        let name = net_core::DomainName::of(labels);
        for attachment in state.attachments() {
            let asker = attachment.stable().map(|StableAddress { v4, .. }| v4.into());
            let _answer = names.answer(&name, Wanted::Ipv4, asker.unwrap_or(attachment.addresses.v4.into()));
        }
    }
}
