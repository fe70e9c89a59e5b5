//! Two tunnels in two network namespaces of the test's own, joined by a cable. Needs root.
//!
//! ```text
//!   left  wg0 10.9.0.1, fd09::1 ── up0 192.0.2.1, 2001:db8::1 ══ 192.0.2.2, 2001:db8::2 up0 ── 10.9.0.2, fd09::2 wg0  right
//! ```

mod hostile;
mod peers;
mod support;
mod traffic;
