//! Kernels that lack something: refused by name. What a virtual machine has is in the hands of `scripts/test-kernel`, which
//! runs these before it loads modules, and when it took some away again.

use net_manager::datapath::KernelDatapath;
use nlink::netlink::{Connection, Nftables};

use crate::support::{Place, run};

/// What NetManager says that is started in `place`.
fn start_in(place: &Place) -> Result<(), String> {
    let opened = place.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(KernelDatapath::open()).map(drop)
    });
    opened.map_err(|error| daemon::chain(&error).to_string())
}

#[tokio::test]
async fn a_kernel_that_has_everything_is_taken_and_left_as_it_was() {
    let place = Place::new();
    // So is one where a look was cut short.
    run(&place, "ip", "link add mgvtrial type veth peer name mgvtrialend\n");
    assert_eq!(start_in(&place), Ok(()));
    let links = place.route().get_links().await.expect("netlink");
    let names: Vec<_> =
        links.iter().filter_map(|link| link.name()).filter(|name| name.contains("mgv")).collect();
    assert_eq!(names, [""; 0]);
    let nftables = Connection::<Nftables>::new_in(&place.netns).expect("netlink");
    assert_eq!(nftables.list_tables().await.expect("tables").len(), 0);
}

const REST: &str = "or use a kernel that has it, or run NodeEngine without -n";

#[test]
#[ignore = "needs a kernel without any module: scripts/test-kernel"]
fn a_kernel_without_modules_is_refused() {
    let refused = start_in(&Place::new()).expect_err("it has none");
    let expected = format!(
        "cannot carry traffic with this kernel: it lacks nf_tables (rules), veth (cables to instances), vxlan (links within \
         a trusted site), tun (encrypted links); load that by `modprobe -a nf_tables veth vxlan tun`, {REST}"
    );
    assert_eq!(refused, expected);
}

#[test]
#[ignore = "needs a kernel without nft_numgen and vxlan: scripts/test-kernel"]
fn all_that_a_kernel_lacks_is_named() {
    let refused = start_in(&Place::new()).expect_err("it lacks two");
    let expected = format!(
        "cannot carry traffic with this kernel: it lacks nft_numgen (calls to instances in turn), vxlan (links within a \
         trusted site); load that by `modprobe -a nft_numgen vxlan`, {REST}"
    );
    assert_eq!(refused, expected);
}
