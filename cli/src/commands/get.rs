//! `mangrove get`: lists of what the root knows.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    args::{FilteredListing, Format, GetWhat, Listing},
    client::Client,
    commands::workers,
    error::Error,
    objects::{self, Application, Cluster, Instance, LastExit, Listed, Service, Stage, Token},
    output::Output,
    resolve,
};

/// Lists one kind of thing.
pub(crate) async fn run(client: &Client, output: &Output, what: GetWhat) -> Result<(), Error> {
    match what {
        GetWhat::Apps(listing) => applications(client, output, &listing).await,
        GetWhat::Services(listing) => services(client, output, &listing).await,
        GetWhat::Instances(listing) => instances(client, output, &listing).await,
        GetWhat::Clusters(listing) => clusters(client, output, listing).await,
        GetWhat::Workers { cluster, listing } => workers::list(client, output, &cluster, listing).await,
        GetWhat::Tokens(listing) => tokens(client, output, listing).await,
    }
}

/// A kind of thing as a table. The columns after `narrow` are for wide tables.
pub(super) struct Columns<'a, T> {
    pub(super) headings: &'a [&'a str],
    pub(super) narrow: usize,
    pub(super) row: &'a dyn Fn(&T) -> Vec<String>,
    pub(super) name: &'a dyn Fn(&T) -> String,
    pub(super) nothing: &'a str,
}

/// Prints a list as it was asked for.
pub(super) fn print<T>(
    output: &Output,
    format: Format,
    items: &[Listed<T>],
    columns: &Columns<'_, T>,
) -> Result<(), Error> {
    let shown = match format {
        Format::Json => {
            return output.json(&Value::Array(items.iter().map(|item| item.json.clone()).collect()));
        }
        Format::Name => {
            return items.iter().try_for_each(|item| output.data(&(columns.name)(&item.object)));
        }
        Format::Table => columns.narrow,
        Format::Wide => columns.headings.len(),
    };
    if items.is_empty() {
        output.note(columns.nothing);
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = items.iter().map(|item| (columns.row)(&item.object)).collect();
    rows.iter_mut().for_each(|row| row.truncate(shown));
    output.table(&columns.headings[..shown], rows)
}

async fn applications(client: &Client, output: &Output, listing: &FilteredListing) -> Result<(), Error> {
    let mut applications: Vec<Listed<Application>> = objects::list(client, "/api/applications/").await?;
    if let Some(name) = &listing.app {
        let id = resolve::application(applications.iter().map(|item| &item.object), name)?.id.clone();
        applications.retain(|item| item.object.id == id);
    }
    applications.sort_by_key(|item| (item.object.full_name(), item.object.id.clone()));
    let columns = Columns {
        headings: &["NAME", "NAMESPACE", "SERVICES", "ID", "OWNER", "ORGANISATION", "DESCRIPTION"],
        narrow: 4,
        row: &|application: &Application| {
            vec![
                application.name.clone(),
                application.namespace.clone(),
                application.microservices.len().to_string(),
                application.id.clone(),
                application.owner.clone(),
                application.organization.clone(),
                application.description.clone(),
            ]
        },
        name: &Application::full_name,
        nothing: "there are no applications; `mangrove deploy -f FILE` makes one",
    };
    print(output, listing.listing.output, &applications, &columns)
}

async fn services(client: &Client, output: &Output, listing: &FilteredListing) -> Result<(), Error> {
    let services = fetch_services(client, listing.app.as_deref()).await?;
    let columns = Columns {
        headings: &[
            "APPLICATION",
            "SERVICE",
            "RUNNING",
            "STATUS",
            "IMAGE",
            "ID",
            "PORTS",
            "MEMORY",
            "VCPUS",
            "REVISION",
            "CHANGE",
        ],
        narrow: 5,
        row: &|service: &Service| {
            let runs = |instance: &&Instance| matches!(instance.stage(), Stage::Running | Stage::Unready);
            let running = service.staying().filter(runs).count();
            vec![
                service.application(),
                service.short_name(),
                format!("{running}/{}", service.staying().count()),
                service.status.clone(),
                service.image.clone(),
                service.id.clone(),
                service.port.clone(),
                service.memory.map(|mebibytes| format!("{mebibytes} MiB")).unwrap_or_default(),
                service.vcpus.map(|cores| cores.to_string()).unwrap_or_default(),
                number_or_nothing(service.revision),
                service.rollout.as_ref().map(ToString::to_string).unwrap_or_default(),
            ]
        },
        name: &Service::full_name,
        nothing: "there are no services; `mangrove deploy -f FILE` makes some",
    };
    print(output, listing.listing.output, &services, &columns)
}

/// All services, or those of one application, in the order of their names.
async fn fetch_services(client: &Client, application: Option<&str>) -> Result<Vec<Listed<Service>>, Error> {
    let path = match application {
        None => "/api/services/".to_owned(),
        Some(name) => {
            let applications: Vec<Listed<Application>> = objects::list(client, "/api/applications/").await?;
            let found = resolve::application(applications.iter().map(|item| &item.object), name)?;
            format!("/api/services/{}", found.id)
        }
    };
    let mut services: Vec<Listed<Service>> = objects::list(client, &path).await?;
    services.sort_by_key(|item| (item.object.full_name(), item.object.id.clone()));
    Ok(services)
}

async fn instances(client: &Client, output: &Output, listing: &FilteredListing) -> Result<(), Error> {
    let services = fetch_services(client, listing.app.as_deref()).await?;
    let instances: Vec<Listed<(Service, Instance)>> = services.iter().flat_map(instances_of).collect();
    let format = listing.listing.output;
    let names = match format {
        Format::Table | Format::Wide => cluster_names(client).await,
        Format::Json | Format::Name => BTreeMap::new(),
    };
    let now = jiff::Timestamp::now();
    let columns = Columns {
        headings: &[
            "APPLICATION",
            "INSTANCE",
            "PHASE",
            "READY",
            "FOR",
            "RESTARTS",
            "REVISION",
            "CLUSTER",
            "REACHED AT",
            "WHY",
            "ADDRESSES",
            "LAST EXIT",
        ],
        narrow: 10,
        row: &|(service, instance): &(Service, Instance)| {
            let cluster = names.get(&instance.cluster_id).unwrap_or(&instance.cluster_id);
            vec![
                service.application(),
                format!("{}/{}", service.short_name(), instance.number),
                instance.phase(),
                instance.ready.map(yes_or_no).unwrap_or_default(),
                instance.since.as_deref().map(|since| age(since, now)).unwrap_or_default(),
                instance.restarts.to_string(),
                number_or_nothing(instance.revision),
                cluster.clone(),
                instance.reached_at().join(" "),
                instance.detail(),
                instance.addresses.join(" "),
                instance.last_exit.as_ref().map(|exit| exit_in_words(exit, now)).unwrap_or_default(),
            ]
        },
        name: &|(service, instance): &(Service, Instance)| {
            format!("{}/{}", service.full_name(), instance.number)
        },
        nothing: "there are no instances; `mangrove deploy -f FILE` starts some",
    };
    print(output, format, &instances, &columns)
}

/// The instances of a service; their JSON also says which service they are of, in the words of the service.
fn instances_of(service: &Listed<Service>) -> Vec<Listed<(Service, Instance)>> {
    let documents = service.json["instance_list"].as_array().map_or(&[][..], Vec::as_slice);
    let mut instances: Vec<Listed<(Service, Instance)>> = service
        .object
        .instances
        .iter()
        .zip(documents)
        .map(|(instance, document)| {
            let mut json = document.clone();
            for key in ["microserviceID", "job_name"] {
                json[key] = service.json[key].clone();
            }
            Listed { object: (service.object.clone(), instance.clone()), json }
        })
        .collect();
    instances.sort_by_key(|item| item.object.1.number);
    instances
}

/// The names of the clusters by their ids; none when the root does not tell, since ids serve too.
async fn cluster_names(client: &Client) -> BTreeMap<String, String> {
    let clusters: Vec<Listed<Cluster>> = objects::list(client, "/api/clusters/").await.unwrap_or_default();
    clusters.into_iter().map(|item| (item.object.id, item.object.name)).collect()
}

async fn clusters(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut clusters: Vec<Listed<Cluster>> = objects::list(client, "/api/clusters/").await?;
    clusters.sort_by_key(|item| (item.object.name.clone(), item.object.id.clone()));
    let columns = Columns {
        headings: &[
            "NAME",
            "ACTIVE",
            "WORKERS",
            "CPU",
            "VCPUS",
            "MEMORY FREE",
            "LOCATION",
            "ID",
            "RUNS",
            "ADDONS",
        ],
        narrow: 7,
        row: &|cluster: &Cluster| {
            vec![
                cluster.name.clone(),
                yes_or_no(cluster.active),
                cluster.active_nodes.to_string(),
                format!("{:.0} %", cluster.cpu_percent),
                cluster.vcpus.to_string(),
                format!("{:.0} MiB", cluster.memory),
                cluster.location.clone(),
                cluster.id.clone(),
                cluster.virtualization.join(" "),
                cluster.supported_addons.join(" "),
            ]
        },
        name: &|cluster: &Cluster| cluster.name.clone(),
        nothing: "there are no clusters; `mangrove token create --cluster NAME` lets one join",
    };
    print(output, listing.output, &clusters, &columns)
}

/// Lists the join tokens.
pub(crate) async fn tokens(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut tokens: Vec<Listed<Token>> = objects::list(client, "/api/tokens").await?;
    tokens.sort_by_key(|item| (item.object.expires_at.clone(), item.object.id.clone()));
    let now = jiff::Timestamp::now();
    let columns = Columns {
        headings: &["ID", "KIND", "CLUSTER", "USES LEFT", "EXPIRES IN", "EXPIRES AT"],
        narrow: 5,
        row: &|token: &Token| {
            vec![
                token.id.clone(),
                token.kind.clone(),
                token.cluster.clone(),
                token.uses.map(|uses| uses.to_string()).unwrap_or_default(),
                time_left(&token.expires_at, now),
                token.expires_at.clone(),
            ]
        },
        name: &|token: &Token| token.id.clone(),
        nothing: "there are no join tokens; `mangrove token create` makes one",
    };
    print(output, listing.output, &tokens, &columns)
}

fn exit_in_words(exit: &LastExit, now: jiff::Timestamp) -> String {
    format!("code {}, {} ago", exit.code, age(&exit.at, now))
}

fn number_or_nothing(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// As a column says it.
pub(super) fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// How long ago `since` was; the text itself when it is no time.
pub(super) fn age(since: &str, now: jiff::Timestamp) -> String {
    match since.parse::<jiff::Timestamp>() {
        Ok(since) => in_words(now.as_second() - since.as_second()),
        Err(_) => since.to_owned(),
    }
}

pub(super) fn time_left(end: &str, now: jiff::Timestamp) -> String {
    match end.parse::<jiff::Timestamp>() {
        Ok(end) if end <= now => "expired".to_owned(),
        Ok(end) => in_words(end.as_second() - now.as_second()),
        Err(_) => end.to_owned(),
    }
}

/// The two largest units, or one where the second would be noise. Clocks that disagree make no negative times.
fn in_words(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        (1..=9, _, _) => format!("{days}d{}h", hours % 24),
        (_, _, _) => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_units() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(age("2026-11-21T09:59:58Z", now), "2s");
        assert_eq!(age("2026-11-21T09:58:58.5Z", now), "1m2s");
        assert_eq!(age("2026-11-21T08:00:00+00:00", now), "2h0m");
        assert_eq!(age("2026-11-19T07:00:00Z", now), "2d3h");
        assert_eq!(age("2026-10-21T10:00:00Z", now), "31d");
        assert_eq!(age("2026-11-21T10:00:09Z", now), "0s");
        assert_eq!(age("yesterday", now), "yesterday");
        assert_eq!(time_left("2026-11-21T10:59:00Z", now), "59m0s");
        assert_eq!(time_left("2026-11-21T10:00:00Z", now), "expired");
    }
}
