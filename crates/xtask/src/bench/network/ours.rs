//! Our side: in one cluster of the lab an instance that calls, one beside it and one on the other worker, and the
//! addresses of their services.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    place::Place,
    probe::{self, Server},
};
use crate::lab::{
    IMAGE,
    survival::world::{RUNS_WITHIN, Service, World},
};

/// One service, with the address that leads to each of its instances in turn.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) service: Service,
    pub(super) address: IpAddr,
}

/// Services of one application by name, with the fields of each, such as where it may run; nothing is deployed by it.
pub(super) async fn application(
    world: &mut World,
    name: &str,
    services: &[(&str, Value)],
) -> Result<Vec<Called>> {
    let services: Vec<Value> = services
        .iter()
        .map(|(name, fields)| {
            let mut service = json!({
                "microservice_name": name, "microservice_namespace": "bench", "virtualization": "container",
                "code": IMAGE, "memory": 16,
            });
            for (name, value) in fields.as_object().into_iter().flatten() {
                service[name] = value.clone();
            }
            service
        })
        .collect();
    let sla = json!({"sla_version": "v2.0", "customerID": "Admin", "applications": [{
        "applicationID": "", "application_name": name, "application_namespace": "bench",
        "application_desc": "", "microservices": services,
    }]});
    let all = world.post("/api/application", sla).await?;
    let made = all.as_array().into_iter().flatten().find(|one| one["application_name"] == name);
    let made = made.context("the root does not tell of the application it has made")?;
    let application = text(&made["applicationID"])?;
    let told = world.get(&format!("/api/services/{application}")).await?;
    services.iter().map(|service| called(&application, &told, &service["microservice_name"])).collect()
}

fn called(application: &str, told: &Value, name: &Value) -> Result<Called> {
    let service = told.as_array().into_iter().flatten().find(|one| one["microservice_name"] == *name);
    let service = service.with_context(|| format!("the root does not tell of the service {name}"))?;
    let mut addresses = service["service_ip_list"].as_array().into_iter().flatten();
    let address = addresses.find(|one| one["IpType"] == "RR").context("the service has no address")?;
    Ok(Called {
        service: Service {
            application: application.to_owned(),
            name: application.to_owned(),
            id: text(&service["microserviceID"])?,
            port: None,
        },
        address: text(&address["Address"])?.parse().context("read the address of a service")?,
    })
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is no text"))?.to_owned())
}

/// The field of a service that says where it may run.
pub(super) fn on(cluster: &str, worker: Option<&str>) -> Value {
    let constraint = match worker {
        Some(worker) => json!({"type": "direct", "cluster": cluster, "node": worker}),
        None => json!({"type": "direct", "cluster": cluster}),
    };
    json!({"constraints": [constraint]})
}

/// Deploys one instance of a service that is to have one; gives its namespace.
pub(super) async fn deploy(world: &mut World, service: &Service) -> Result<Place> {
    world.deploy(service).await?;
    world.running(service, 1, RUNS_WITHIN).await?;
    let copy = world.one_copy(service, RUNS_WITHIN).await?;
    let shown = world.inspect(&copy).await?;
    let process = shown["State"]["Pid"].as_u64().context("a container that runs has a process")?;
    Ok(Place::of(world.lab.network_of_process(&copy.host, process)?))
}

/// The address of the one instance of a service.
async fn own_address(world: &mut World, service: &Service) -> Result<IpAddr> {
    let told = world.get(&format!("/api/service/{}", service.id)).await?;
    text(&told["instance_list"][0]["instance_ip"])?.parse().context("read the address of an instance")
}

/// Two workers of a cluster.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) caller: Place,
    pub(super) near: IpAddr,
    pub(super) far: IpAddr,
    /// The same two instances by addresses of their own, which nothing translates.
    pub(super) near_itself: IpAddr,
    pub(super) far_itself: IpAddr,
    _servers: [Server; 2],
}

impl Ours {
    pub(super) async fn new(world: &mut World, cluster: &str) -> Result<Self> {
        let [first, second] = [1, 2].map(|number| format!("{cluster}w{number}"));
        let here = on(cluster, Some(&first));
        let services = [("caller", here.clone()), ("near", here), ("far", on(cluster, Some(&second)))];
        let made = application(world, &format!("paths{cluster}"), &services).await?;
        let mut places = Vec::new();
        for called in &made {
            places.push(deploy(world, &called.service).await?);
        }
        let [caller, near, far]: [Place; 3] = places.try_into().ok().context("there are three services")?;
        let servers = [Server::start(&near)?, Server::start(&far)?];
        let [near_itself, far_itself] =
            [own_address(world, &made[1].service).await?, own_address(world, &made[2].service).await?];
        let (near, far) = (made[1].address, made[2].address);
        let ours = Self { caller, near, far, near_itself, far_itself, _servers: servers };
        probe::await_path(&ours.caller, ours.near)?;
        probe::await_path(&ours.caller, ours.far)?;
        Ok(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_its_name_with_the_address_that_leads_to_all_in_turn() {
        let told = json!([
            {"microservice_name": "near", "microserviceID": "1", "service_ip_list": []},
            {"microservice_name": "far", "microserviceID": "2", "service_ip_list": [
                {"IpType": "closest", "Address": "10.30.0.8"}, {"IpType": "RR", "Address": "10.30.0.7"},
            ]},
        ]);
        let far = called("app", &told, &json!("far")).expect("it is told");
        assert_eq!((far.service.id.as_str(), far.address.to_string().as_str()), ("2", "10.30.0.7"));
        let near = called("app", &told, &json!("near")).expect_err("it has none").to_string();
        assert_eq!(near, "the service has no address");
    }
}
