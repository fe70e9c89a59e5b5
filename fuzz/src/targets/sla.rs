//! What users may send: a whole SLA, and one service to change another to.

use model::{ApplicationId, OrganizationId, ServiceId};
use root_core::{
    Author, FreshIds, State,
    sla::{self, Shown},
};

use crate::shared;

/// Counts instead of drawing.
#[derive(Default)]
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.0.to_be_bytes());
        bytes
    }
}

impl FreshIds for Ids {
    fn application(&mut self) -> ApplicationId {
        ApplicationId::from_bytes(self.next())
    }

    fn service(&mut self) -> ServiceId {
        ServiceId::from_bytes(self.next())
    }
}

pub(crate) fn take(data: &[u8]) {
    let now = shared::BEGINNING;
    match sla::parse(data) {
        Ok(sla) => {
            let organization = OrganizationId::from_bytes([3; 12]);
            let author = Author { organization, name: "user".to_owned() };
            let mut state = State::of(organization);
            let wanted = sla.applications;
            if let Ok((_, changes)) =
                state.create_applications(&author, wanted, &mut Ids::default(), now.date)
            {
                shared::settle(&mut state, changes, now);
                for service in state.services().cloned().collect::<Vec<_>>() {
                    let (_, changes) = state.deploy(&service, now.date).expect("no quota");
                    shared::settle(&mut state, changes, now);
                }
            }
        }
        Err(problems) => assert!(problems.iter().next().is_some(), "every \"no\" says why"),
    }
    let _one = sla::parse_change(data, Shown { id: "0123", image: "image" });
}
