//! Beats over loopback: what arrives, what is believed, and what keeps coming.

#[cfg(test)]
mod beats {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use link::{Beat, BeatListener, DatagramSession, send_beats};
    use model::Load;
    use tokio::{
        net::UdpSocket,
        sync::watch,
        task::JoinSet,
        time::{Instant, timeout},
    };

    const LOOPBACK: &str = "127.0.0.1:0";
    /// Nothing takes this long on loopback, even on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// Long enough that what was sent has arrived.
    const MOMENT: Duration = Duration::from_millis(150);
    const NEVER: Duration = Duration::from_secs(3600);
    const LOAD: Load = Load { cpu_percent: 12.5, memory_percent: 40.0 };

    /// Told by nobody any more, so it stays.
    fn load() -> watch::Receiver<Load> {
        watch::channel(LOAD).1
    }

    fn beat_of(session: &DatagramSession, sequence: u64) -> Beat {
        Beat { session: session.id, sequence, load: LOAD }
    }

    fn listener() -> BeatListener {
        BeatListener::bind(LOOPBACK.parse().expect("an address")).expect("a free port")
    }

    /// A child that is dropped with the set. The sender of intervals is the caller's.
    fn child(
        parent: SocketAddr,
        session: &DatagramSession,
        every: Duration,
    ) -> (JoinSet<()>, watch::Sender<Duration>) {
        let (tell, interval) = watch::channel(every);
        let (parent, session) = (parent.to_string(), session.clone());
        let mut children = JoinSet::new();
        children.spawn(async move { match send_beats(&parent, session, interval, load()).await {} });
        (children, tell)
    }

    async fn recv(listener: &BeatListener) -> Vec<Beat> {
        loop {
            listener.rung().await;
            let beats = listener.take_in();
            if !beats.is_empty() {
                return beats;
            }
        }
    }

    async fn next(listener: &BeatListener) -> Vec<Beat> {
        timeout(PATIENCE, recv(listener)).await.expect("a beat")
    }

    async fn nothing_comes(listener: &BeatListener) {
        let came = timeout(MOMENT, recv(listener)).await;
        assert!(came.is_err(), "{came:?}");
    }

    #[tokio::test]
    async fn the_first_beat_comes_at_once_and_the_others_as_told() {
        let parent = listener();
        let session = parent.register();
        let started = Instant::now();
        let (_child, tell) = child(parent.local_addr().expect("bound"), &session, Duration::from_millis(300));
        let beat = |sequence| vec![beat_of(&session, sequence)];
        assert_eq!(next(&parent).await, beat(0));
        assert!(started.elapsed() < Duration::from_millis(300));
        assert_eq!(next(&parent).await, beat(1));
        assert!(started.elapsed() >= Duration::from_millis(300));
        // A new interval holds at once, and from the last beat on.
        tell.send_replace(NEVER);
        nothing_comes(&parent).await;
        tell.send_replace(Duration::from_millis(50));
        assert_eq!(next(&parent).await, beat(2));
        // Whoever told the interval may go.
        drop(tell);
        assert_eq!(next(&parent).await, beat(3));
        assert_eq!(next(&parent).await, beat(4));
    }

    #[tokio::test]
    async fn waiting_costs_nothing_when_nobody_tells_the_interval_any_more() {
        let parent = listener();
        let session = parent.register();
        let (_child, tell) = child(parent.local_addr().expect("bound"), &session, Duration::from_secs(1));
        drop(tell);
        next(&parent).await;
        let before = processor_time();
        next(&parent).await;
        let spent = processor_time() - before;
        assert!(spent < Duration::from_millis(300), "{spent:?} of a second");
    }

    #[tokio::test]
    async fn a_child_that_is_asked_answers_at_once() {
        let parent = listener();
        let session = parent.register();
        parent.ask(session.id);
        let (_child, _tell) = child(parent.local_addr().expect("bound"), &session, NEVER);
        assert_eq!(next(&parent).await, [beat_of(&session, 0)]);
        nothing_comes(&parent).await;
        for sequence in 1..4 {
            parent.ask(session.id);
            assert_eq!(next(&parent).await, [beat_of(&session, sequence)]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        parent.ask(session.id.wrapping_add(1));
        parent.forget(session.id);
        parent.ask(session.id);
        nothing_comes(&parent).await;
    }

    /// Stands between child and parent and keeps what passes.
    struct Between {
        to_child: UdpSocket,
        to_parent: UdpSocket,
    }

    impl Between {
        async fn new(parent: SocketAddr) -> Self {
            let to_child = UdpSocket::bind(LOOPBACK).await.expect("a free port");
            let to_parent = UdpSocket::bind(LOOPBACK).await.expect("a free port");
            to_parent.connect(parent).await.expect("a way");
            Self { to_child, to_parent }
        }

        /// What the child sends next; replies go there.
        async fn of_child(&self) -> Vec<u8> {
            let mut buffer = [0; 64];
            let (length, child) = self.to_child.recv_from(&mut buffer).await.expect("received");
            self.to_child.connect(child).await.expect("a way");
            buffer[..length].to_vec()
        }

        async fn of_parent(&self) -> Vec<u8> {
            let mut buffer = [0; 64];
            let length = self.to_parent.recv(&mut buffer).await.expect("received");
            buffer[..length].to_vec()
        }

        async fn pass_up(&self, bytes: &[u8]) {
            self.to_parent.send(bytes).await.expect("sent");
        }
    }

    #[tokio::test]
    async fn only_genuine_beats_count_and_each_once() {
        let parent = listener();
        let session = parent.register();
        let between = Between::new(parent.local_addr().expect("bound")).await;
        let (_child, _tell) =
            child(between.to_child.local_addr().expect("bound"), &session, Duration::from_millis(50));
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(between.of_child().await);
        }
        assert!(sent.iter().all(|beat| beat.len() == 24));

        for bit in 0..24 * 8 {
            let mut wrong = sent[0].clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            between.pass_up(&wrong).await;
        }
        between.pass_up(&[]).await;
        between.pass_up(&sent[0][..23]).await;
        between.pass_up(&[&sent[0][..], &[0]].concat()).await;
        between.pass_up(&[0; 1400]).await;
        nothing_comes(&parent).await;

        // In any order, each once.
        let mut came = Vec::new();
        for index in [0, 2, 1, 1, 0, 2, 3] {
            between.pass_up(&sent[index]).await;
        }
        while came.len() < 4 {
            came.extend(next(&parent).await.into_iter().map(|beat| beat.sequence));
        }
        assert_eq!(came, [0, 2, 1, 3]);
        nothing_comes(&parent).await;

        let last = between.of_child().await;
        parent.forget(session.id);
        between.pass_up(&last).await;
        nothing_comes(&parent).await;
    }

    #[tokio::test]
    async fn only_genuine_asks_are_answered_and_each_once() {
        let parent = listener();
        let session = parent.register();
        let between = Between::new(parent.local_addr().expect("bound")).await;
        let (_child, _tell) = child(between.to_child.local_addr().expect("bound"), &session, NEVER);
        let first = between.of_child().await;
        between.pass_up(&first).await;
        next(&parent).await;
        parent.ask(session.id);
        let ask = between.of_parent().await;
        let mut wrong = ask.clone();
        wrong[23] ^= 1;
        let longer = [&ask[..], &[0]].concat();
        for useless in [&wrong, &first, &longer, &vec![]] {
            between.to_child.send(useless).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert!(timeout(MOMENT, between.of_child()).await.is_err(), "answered something else");
        between.to_child.send(&ask).await.expect("sent");
        let answer = timeout(PATIENCE, between.of_child()).await.expect("an answer");
        between.pass_up(&answer).await;
        assert_eq!(next(&parent).await, [beat_of(&session, 1)]);
        tokio::time::sleep(Duration::from_millis(30)).await;
        between.to_child.send(&ask).await.expect("sent");
        assert!(timeout(MOMENT, between.of_child()).await.is_err(), "answered twice");
    }

    #[tokio::test]
    async fn beats_go_on_when_the_parents_port_was_closed_for_a_while() {
        let port = UdpSocket::bind(LOOPBACK).await.expect("a free port");
        let address = port.local_addr().expect("bound");
        let session = DatagramSession { id: 1, key: [7; 32] };
        let (_child, _tell) = child(address, &session, Duration::from_millis(50));
        let mut buffer = [0; 64];
        timeout(PATIENCE, port.recv(&mut buffer)).await.expect("a beat").expect("received");
        drop(port);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let port = UdpSocket::bind(address).await.expect("the same port");
        for _ in 0..3 {
            timeout(PATIENCE, port.recv(&mut buffer)).await.expect("a beat").expect("received");
        }
    }

    #[tokio::test]
    async fn a_parent_is_found_by_its_name() {
        let parent = listener();
        let session = parent.register();
        let (_tell, interval) = watch::channel(Duration::from_millis(100));
        let (name, told) =
            (format!("localhost:{}", parent.local_addr().expect("bound").port()), session.clone());
        let mut children = JoinSet::new();
        children.spawn(async move { match send_beats(&name, told, interval, load()).await {} });
        assert_eq!(next(&parent).await[0].session, session.id);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_does_not_end_the_sender() {
        let (_tell, interval) = watch::channel(Duration::from_millis(100));
        let session = DatagramSession { id: 1, key: [7; 32] };
        let sending = send_beats("no-such-name.invalid:1", session, interval, load());
        assert!(timeout(Duration::from_secs(1), sending).await.is_err());
    }

    /// What 100,000 beats a second cost the thread that takes them in. Run it with `--release --run-ignored all`. On a
    /// busy virtual machine it was 2.8 µs for each, most of that the kernel's.
    #[test]
    #[ignore = "measures; wants an otherwise idle machine"]
    fn a_hundred_thousand_beats_a_second_take_less_than_half_a_core() {
        const CHILDREN: usize = 20_000;
        const BEATS: usize = 300_000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let parent = Arc::new(listener());
            let address = parent.local_addr().expect("bound");
            let keys: Vec<(DatagramSession, ring::hmac::Key)> = (0..CHILDREN)
                .map(|_| {
                    let session = parent.register();
                    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &session.key);
                    (session, key)
                })
                .collect();
            let sending = std::thread::spawn(move || {
                let socket = std::net::UdpSocket::bind(LOOPBACK).expect("a free port");
                socket.connect(address).expect("a way");
                let started = std::time::Instant::now();
                for beat in 0..BEATS {
                    let (session, key) = &keys[beat % CHILDREN];
                    let number = u32::try_from(beat / CHILDREN).expect("few").to_be_bytes();
                    let tagged = [&b"b"[..], &session.id.to_be_bytes(), &number, &[0; 4]].concat();
                    let tag = ring::hmac::sign(key, &tagged);
                    let bytes = [&tagged[1..], &tag.as_ref()[..8]].concat();
                    socket.send(&bytes).expect("sent");
                    // A hundred thousand a second.
                    while beat % 100 == 0 && started.elapsed() < Duration::from_micros(beat as u64 * 10) {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            let (mut came, mut batches) = (0, 0);
            let before = processor_time();
            while let Ok(beats) = timeout(Duration::from_secs(1), recv(&parent)).await {
                came += beats.len();
                batches += 1;
            }
            let spent = processor_time() - before;
            sending.join().expect("sent");
            println!(
                "{came} of {BEATS} beats in {batches} batches, {spent:?}: {:?} for each",
                spent / 300_000
            );
            assert_eq!(came, BEATS);
            assert!(spent < Duration::from_millis(1500), "{spent:?} for three seconds of beats");
        });
    }

    /// What this thread has used of a processor.
    fn processor_time() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanos = text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
        Duration::from_nanos(nanos)
    }
}
