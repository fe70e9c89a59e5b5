//! What a device pays for an instance beside its own process, and how it is made to have forgotten everything.

use std::fs;

use anyhow::{Context, Result};

use crate::bench::{
    figure::Figure,
    http::{Body, Method},
    proc::{Memory, parent_of},
    stack::Stack,
    statistics::Samples,
};

/// The memory of what the engine keeps beside the process of every instance there is: its parent. Nothing else that
/// belongs to one instance alone is a process.
pub(super) async fn memory_figures(stack: &Stack) -> Result<[Figure; 2]> {
    let mut connection = stack.engine.connect().await?;
    let (mut resident, mut proportional) = (Vec::new(), Vec::new());
    for container in stack.engine.containers(Some(&stack.instance_label())).await? {
        let path = format!("/containers/{container}/json");
        let told = connection.ask(Method::GET, &path, Body::Empty).await?;
        let process = told["State"]["Pid"].as_u64().context("the engine tells no process")?;
        let memory = Memory::of(parent_of(u32::try_from(process)?)?)?;
        resident.push(memory.resident as f64 / 1e6);
        proportional.push(memory.proportional as f64 / 1e6);
    }
    Ok([("RSS", resident), ("PSS", proportional)].map(|(what, values)| {
        let samples = Samples::new(values);
        let name = format!("beside the process of an instance: {what}, median");
        Figure::new(name, samples.median(), "MB", samples.count())
    }))
}

/// Lets the kernel forget what it read from disks, as after a boot: programs, images, directories.
pub(super) fn forget_files() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("let the kernel drop what it read from disks")
}
