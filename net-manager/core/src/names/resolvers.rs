//! Whom the device itself asks for names, as `resolv.conf` says it.

use std::net::IpAddr;

use super::NAME_SERVER;

/// As many as the C library takes note of; the lines after them are there by mistake.
const MOST: usize = 3;

/// The name servers `text` names, in order, without ourselves. Those on one link only (`fe80::1%eth0`) are left out.
#[must_use]
pub fn resolvers_of(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .filter(|address: &IpAddr| address.to_canonical() != IpAddr::V4(NAME_SERVER))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_name_servers_count_and_we_are_none_of_them() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.53\n nameserver\t2001:db8::1 # ours\n\
                    nameserver 169.254.1.1\nnameserver fe80::1%eth0\nnameserver\nnameserver here\n\
                    nameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let expected: [IpAddr; 3] =
            ["127.0.0.53", "2001:db8::1", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        assert_eq!(resolvers_of(text), expected);
        assert_eq!(resolvers_of(""), Vec::<IpAddr>::new());
    }
}
