//! Building a lab and removing it. A lab that was not built to its end counts as left behind and is removed first.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{
    IMAGE, Lab, api_address, census, cgroups,
    host::Shape,
    join,
    layout::Layout,
    plan::{PASSWORD, Plan},
    power, programs,
    programs::{HELLO, Programs},
    switch::{self, Switch},
};
use crate::bench::{
    http::{Body, Method},
    stack::wait::wait_until,
};

/// As `join::READY_WITHIN`.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What a lab is, on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    shape: Shape,
    /// Whether it was built to its end.
    complete: bool,
}

impl Lab {
    /// Builds a lab, or takes the one that is up if it has this shape; says which.
    ///
    /// # Errors
    /// This is not root, the machine lacks something, there is a lab of another shape, or something does not come up.
    /// What was built until then stays to be looked at; [`down`] or the next call removes it.
    pub(crate) async fn up(
        shape: Shape,
        programs: impl FnOnce() -> Result<Programs>,
    ) -> Result<(Self, bool)> {
        shape.check()?;
        ensure_root()?;
        programs::ensure_tools()?;
        let layout = Layout::of_this_machine();
        if let Some(lab) = Self::find(&layout)? {
            ensure!(
                lab.shape == shape,
                "there is a lab of another shape, {}: `cargo xtask lab down` removes it",
                lab.shape
            );
            return Ok((lab, false));
        }
        let programs = programs()?;
        let _lock = lock(&layout)?;
        clean(&layout)?;
        switch::ensure_range_is_free()?;
        write_record(&layout, Record { shape, complete: false })?;
        programs.install(&layout)?;
        let lab = Self::start_hosts(layout, shape)?;
        for host in shape.hosts().into_iter().filter(|host| host.has_engine()) {
            let configuration = lab.layout.host(host).engine_configuration();
            fs::write(&configuration, "{}\n")
                .with_context(|| format!("write {}", configuration.display()))?;
            // Engines take longest and wait for nobody.
            join::boot(&lab, host, &Plan::before_joining(host))?;
        }
        if shape.clusters > 0 {
            join::join(&lab).await?;
        }
        lab.distribute_image().await?;
        if shape.clusters > 0 {
            join::await_workers(&lab).await?;
        }
        lab.write_environment()?;
        write_record(&lab.layout, Record { shape, complete: true })?;
        Ok((lab, true))
    }

    /// The lab that is up.
    pub(crate) fn of_this_machine() -> Result<Self> {
        ensure_root()?;
        Self::find(&Layout::of_this_machine())?.context("there is no lab: `cargo xtask lab up` builds one")
    }

    fn find(layout: &Layout) -> Result<Option<Self>> {
        let text = match fs::read(layout.record()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", layout.record().display())),
        };
        // One that cannot be read was being written when the machine went down.
        let Ok(Record { shape, complete: true }) = serde_json::from_slice(&text) else { return Ok(None) };
        let Some(init) = power::find_init(layout, switch::NAME)? else { return Ok(None) };
        Ok(Some(Self { layout: layout.clone(), shape, switch: Switch { init } }))
    }

    fn start_hosts(layout: Layout, shape: Shape) -> Result<Self> {
        power::start_init(&layout, switch::NAME)?;
        for host in shape.hosts() {
            power::start_init(&layout, &host.to_string())?;
        }
        let switch = Switch { init: power::await_init(&layout, switch::NAME)? };
        switch.set_up()?;
        let lab = Self { layout, shape, switch };
        for host in shape.hosts() {
            power::connect(&lab, host)?;
        }
        Ok(lab)
    }

    /// Gives every engine the same image, by its id too.
    async fn distribute_image(&self) -> Result<()> {
        let archive = self.layout.image();
        let mut written: Option<Vec<u8>> = None;
        for host in self.shape.hosts().into_iter().filter(|host| host.has_engine()) {
            let name = host.to_string();
            let engine = self.engine(&name)?;
            let answers = async || engine.version().await.map(Some);
            wait_until(&format!("the engine of {host} answers"), READY_WITHIN, answers).await?;
            match &written {
                Some(tar) => {
                    let mut connection = engine.connect().await?;
                    let loaded = connection.ask(Method::POST, "/images/load", Body::Tar(tar.clone())).await;
                    loaded.with_context(|| format!("load the image on {host}"))?;
                }
                None => {
                    engine.import(IMAGE, &self.layout.bin().join(HELLO)).await?;
                    self.docker(&name, &["save", "--output", &archive.to_string_lossy(), IMAGE])?;
                    written = Some(fs::read(&archive).context("read the image that was saved")?);
                }
            }
        }
        Ok(())
    }

    fn write_environment(&self) -> Result<()> {
        let bin = self.layout.bin();
        let mut text = format!("export PATH={}:$PATH\n", bin.display());
        if self.shape.clusters > 0 {
            let address = api_address();
            text += &format!(
                "export MANGROVE_ROOT=http://{address} MANGROVE_PASSWORD={PASSWORD}\n\
                 export no_proxy=${{no_proxy:+$no_proxy,}}{host} NO_PROXY=${{NO_PROXY:+$NO_PROXY,}}{host}\n",
                host = address.ip()
            );
        }
        let path = self.layout.environment();
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// Ends and removes everything of the lab of this machine, whatever state it is in; says whether there was any.
pub(crate) fn down() -> Result<bool> {
    ensure_root()?;
    let layout = Layout::of_this_machine();
    if !layout.folder().exists() {
        return Ok(false);
    }
    let _lock = lock(&layout)?;
    clean(&layout)?;
    fs::remove_dir_all(layout.folder()).with_context(|| format!("remove {}", layout.folder().display()))?;
    Ok(true)
}

/// Leaves nothing but the folder and its lock.
fn clean(layout: &Layout) -> Result<()> {
    // Before the switch ends, when the kernel would remove it at a time of its own.
    switch::remove_machine_interface()?;
    power::kill(&census::inits_and_starters(&layout.init())?)?;
    cgroups::remove_all()?;
    for entry in fs::read_dir(layout.folder()).context("list the lab's folder")? {
        let path = entry.context("list the lab's folder")?.path();
        let removed = if path == layout.lock() {
            Ok(())
        } else if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn ensure_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a lab needs root: it makes namespaces and starts container engines"
    );
    Ok(())
}

/// Until it is dropped nobody else builds or removes the lab.
fn lock(layout: &Layout) -> Result<File> {
    // There are tokens in it.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(layout.folder())
        .context("create the lab's folder")?;
    let path = layout.lock();
    let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("somebody else is building or removing the lab: wait for them")
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn write_record(layout: &Layout, record: Record) -> Result<()> {
    let path = layout.record();
    fs::write(&path, serde_json::to_vec(&record)?).with_context(|| format!("write {}", path.display()))
}
