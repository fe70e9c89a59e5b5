//! What a lab looks like at a moment, for people.

use std::{fmt::Write, time::Duration};

use anyhow::Result;

use super::{
    Lab, api_address, census,
    control::{Request, State, Told},
    host::Host,
    switch::Link,
    tool,
};

impl Lab {
    /// One block for each host: link, processes with their ids on this machine, containers.
    pub(super) fn describe(&self) -> Result<String> {
        let links = self.switch.links()?;
        let mut text = String::new();
        for host in self.shape.hosts() {
            let (address, link) = (host.address(), links.get(&host.to_string()).copied());
            let cut = self.layout.host(host).cut().exists();
            writeln!(text, "{host:<8} {address:<15} {}", power_and_link(link, cut))?;
            let Some(init) = self.find_init(host)? else { continue };
            let ids = census::ids_on(init)?;
            for told in self.ask(host, &Request::Status)? {
                writeln!(text, "  {}", process(&told, |id| ids.get(&id).copied()))?;
            }
            if host.has_engine() {
                text += &self.containers(host);
            }
        }
        Ok(text)
    }

    /// Where things are.
    pub(super) fn directions(&self) -> String {
        let folder = self.layout.folder().display();
        let mut text = format!(
            "logs       {folder}/hosts/HOST/log/\n\
             docker     docker --host unix://{folder}/hosts/HOST/share/docker.sock …\n\
             commands   source {}\n",
            self.layout.environment().display()
        );
        if self.shape.clusters > 0 {
            text += "           mangrove login && mangrove get clusters\n";
            text += &format!("API        http://{}\n", api_address());
        }
        text
    }

    fn containers(&self, host: Host) -> String {
        let socket = self.layout.host(host).engine();
        let format = "{{.Names}}  {{.Image}}  {{.Status}}";
        let mut command = tool::docker(&socket, &["ps", "--all", "--no-trunc", "--format", format]);
        match tool::run(&mut command) {
            Ok(containers) if containers.is_empty() => "  no containers\n".to_owned(),
            Ok(containers) => containers.lines().map(|line| format!("  container {line}\n")).collect(),
            Err(_) => "  the engine does not answer\n".to_owned(),
        }
    }
}

fn power_and_link(link: Option<Link>, cut: bool) -> String {
    match link {
        None if cut => "off, cut".to_owned(),
        None => "off".to_owned(),
        Some(Link { plugged, lost_percent }) => {
            let state = if plugged { "on" } else { "on, cut" };
            if lost_percent > 0 { format!("{state}, loses {lost_percent} %") } else { state.to_owned() }
        }
    }
}

fn process(told: &Told, on_machine: impl Fn(u32) -> Option<u32>) -> String {
    let state = match told.state {
        State::Runs { id } => match on_machine(id) {
            Some(id) => format!("process {id}"),
            None => "just ended".to_owned(),
        },
        State::Waits { milliseconds } => {
            format!("down, starts in {:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
        }
        State::Stopped => "down until it is started".to_owned(),
    };
    let again = match told.starts {
        0 | 1 => String::new(),
        starts => format!(", started {starts} times"),
    };
    format!("{:<12} {state}{again}", told.process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plan::Process;

    #[test]
    fn a_process_is_told_with_its_id_on_the_machine() {
        let told = |state, starts| {
            process(&Told { process: Process::NodeEngine, state, starts }, |id| (id == 7).then_some(4711))
        };
        assert_eq!(told(State::Runs { id: 7 }, 1), "node-engine  process 4711");
        assert_eq!(told(State::Runs { id: 8 }, 1), "node-engine  just ended");
        assert_eq!(
            told(State::Waits { milliseconds: 1500 }, 3),
            "node-engine  down, starts in 1.5 s, started 3 times"
        );
        assert_eq!(told(State::Stopped, 1), "node-engine  down until it is started");
    }

    #[test]
    fn a_host_that_is_off_tells_whether_its_cable_is_pulled() {
        assert_eq!(power_and_link(None, true), "off, cut");
        let link = Link { plugged: true, lost_percent: 5 };
        assert_eq!(power_and_link(Some(link), false), "on, loses 5 %");
    }
}
