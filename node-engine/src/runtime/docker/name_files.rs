//! What containers behind NetManager look names up in: `/etc/hosts` and `/etc/resolv.conf`. The engine makes neither for
//! a container whose network is none of its business; where NodeEngine keeps them is in `gate.rs`.

use std::path::Path;

use model::{AddressKind, StableAddress};
use node_core::StartOrder;

use super::create::host_name;

/// Where NetManager answers names; see `net-manager/core/src/names`.
const NAME_SERVER: &str = "169.254.1.1";
/// As the engine has it; images rely on these names.
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameFile {
    /// What it is kept as.
    pub(super) name: &'static str,
    /// Its place in the container.
    pub(super) target: &'static str,
    pub(super) content: String,
}

/// The files of a container, but for those that the service brings itself.
pub(super) fn name_files(order: &StartOrder) -> Vec<NameFile> {
    let both = [
        NameFile { name: "hosts", target: "/etc/hosts", content: hosts(order) },
        NameFile { name: "resolv.conf", target: "/etc/resolv.conf", content: resolvers(order) },
    ];
    both.into_iter().filter(|file| !is_added(order, file.target)).collect()
}

fn is_added(order: &StartOrder, target: &str) -> bool {
    // As paths, for which `/etc//hosts` is the same.
    order.spec.added_files.iter().any(|added| Path::new(&added.path) == Path::new(target))
}

/// Its own name leads to the address it keeps, by which others reach it, too.
fn hosts(order: &StartOrder) -> String {
    let name = host_name(order);
    let address = order.address.and_then(|address| StableAddress::of(AddressKind::Instance, address));
    match address {
        Some(StableAddress { v4, v6 }) => format!("{HOSTS}{v4}\t{name}\n{v6}\t{name}\n"),
        // As Debian has it for a host without an address that stays.
        None => format!("{HOSTS}127.0.1.1\t{name}\n"),
    }
}

fn resolvers(order: &StartOrder) -> String {
    let domain = search_domain(order);
    // Else whoever names a service could write further lines.
    let is_one_word = domain.chars().all(|letter| letter.is_ascii_graphic());
    let search = if is_one_word { format!("search {domain}\n") } else { String::new() };
    format!("{search}nameserver {NAME_SERVER}\n")
}

/// What ends the names of its neighbours: `web` is the service of that name in the same namespace.
fn search_domain(order: &StartOrder) -> String {
    let names = &order.names;
    format!("{}.{}.{}.mangrove", names.service_namespace, names.application, names.application_namespace)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::AddedFile;

    use super::*;
    use crate::runtime::docker::create::tests::order;

    fn contents(order: &StartOrder) -> Vec<(&'static str, String)> {
        name_files(order).into_iter().map(|file| (file.target, file.content)).collect()
    }

    #[test]
    fn names_are_asked_of_net_manager_and_the_own_one_leads_to_the_address_that_stays() {
        let mut order = order("web");
        order.address = Some("10.30.0.9".parse().expect("an address"));
        let hosts = format!("{HOSTS}10.30.0.9\tweb-3\nfdff::9\tweb-3\n");
        let resolvers = "search front.shop.prod.mangrove\nnameserver 169.254.1.1\n".to_owned();
        assert_eq!(contents(&order), [("/etc/hosts", hosts), ("/etc/resolv.conf", resolvers)]);
        order.address = None;
        assert_eq!(contents(&order)[0].1, format!("{HOSTS}127.0.1.1\tweb-3\n"));
    }

    #[test]
    fn a_name_cannot_add_lines() {
        let mut order = order("web");
        let names = Arc::make_mut(&mut order.names);
        names.application = "shop\nnameserver 192.0.2.1\n".to_owned();
        assert_eq!(contents(&order)[1].1, "nameserver 169.254.1.1\n");
    }

    #[test]
    fn a_file_that_the_service_brings_itself_counts() {
        let mut order = order("web");
        let added = |path: &str| AddedFile { path: path.to_owned(), content: String::new(), mode: 0o644 };
        Arc::make_mut(&mut order.spec).added_files = vec![added("/etc//hosts"), added("/etc/hosts.allow")];
        let targets: Vec<_> = name_files(&order).into_iter().map(|file| file.target).collect();
        assert_eq!(targets, ["/etc/resolv.conf"]);
    }
}
