//! What the four daemons need while nothing happens: memory, processor time and wake-ups, with and without running
//! instances.

use std::{path::Path, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{
    figure::{Figure, Goal},
    proc::{Consumption, Memory},
    stack::{
        CLUSTER, DAEMONS, NET_MANAGER, NODE_ENGINE, ROOT, Stack,
        root::{Root, deploy},
        with_stack,
    },
};

/// Several periods of everything that is done now and then.
const MEASURED: Duration = Duration::from_secs(60);
/// Starting and deploying have effects for a while: caches, buffers, first reports.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
const INSTANCES: [usize; 2] = [0, 10];

const CPU_GOAL: Goal = Goal::ValueAtMost { value: 0.2, unit: "% of a core" };

/// One daemon over the time measured.
struct Idle {
    name: &'static str,
    memory: Memory,
    used: Consumption,
    seconds: f64,
}

pub(crate) fn run(logs: &Path) -> Result<Vec<Figure>> {
    with_stack(logs, measure)
}

async fn measure(stack: &mut Stack, root: &Root) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let service = root.create(stack.sla()).await?;
    let mut running = Vec::new();
    for count in INSTANCES {
        {
            let mut connection = root.connect().await?;
            let mut watch = root.watch(&service).await?;
            while running.len() < count {
                running.push(deploy(&mut connection, &service).await?);
            }
            watch.running(&running).await?;
        }
        sleep(SETTLES_WITHIN).await;
        let idle = measure_idle(stack).await?;
        figures.extend(figures_of(&idle, count));
    }
    Ok(figures)
}

async fn measure_idle(stack: &Stack) -> Result<Vec<Idle>> {
    let (start, before) = (Instant::now(), stack.consumption()?);
    sleep(MEASURED).await;
    let (seconds, after) = (start.elapsed().as_secs_f64(), stack.consumption()?);
    let mut idle = Vec::new();
    for (((name, id), before), after) in DAEMONS.into_iter().zip(stack.daemon_ids()?).zip(before).zip(after) {
        idle.push(Idle { name, memory: Memory::of(id)?, used: after.since(before), seconds });
    }
    Ok(idle)
}

fn figures_of(idle: &[Idle], instances: usize) -> Vec<Figure> {
    let figure = |who: &str, what: &str, value, unit| {
        Figure::new(format!("{who} with {instances} instances, {what}"), value, unit, 1)
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let memory_goal = |value| Goal::ValueAtMost { value, unit: "MB" };
    let worker = idle.iter().filter(|one| [NODE_ENGINE, NET_MANAGER].contains(&one.name));
    let worker: u64 = worker.map(|one| one.memory.resident).sum();
    let mut figures = vec![
        figure("NodeEngine and NetManager", "RSS", megabytes(worker), "MB").aiming_at(memory_goal(20.0)),
    ];
    for Idle { name, memory, used, seconds } in idle {
        let resident = figure(name, "RSS", megabytes(memory.resident), "MB");
        let goal = match *name {
            CLUSTER => Some(memory_goal(20.0)),
            ROOT => Some(memory_goal(25.0)),
            _ => None,
        };
        figures.push(match goal {
            Some(goal) => resident.aiming_at(goal),
            None => resident,
        });
        figures.push(figure(name, "PSS", megabytes(memory.proportional), "MB"));
        let percent = used.processor_seconds / seconds * 100.0;
        figures.push(figure(name, "CPU", percent, "% of a core").aiming_at(CPU_GOAL));
        figures.push(figure(name, "wake-ups", used.wake_ups as f64 / seconds, "1/s"));
    }
    figures
}
