//! The whole hierarchy in one process: what a user asks for at the root happens on a worker, and back.

#[cfg(test)]
mod system {
    mod certificates;
    mod changes;
    mod contract;
    mod deployment;
    mod hooks;
    mod kube_client;
    mod kube_resume;
    mod loss;
    mod receiver;
    mod records;
    mod relay;
    mod resources;
    mod secrets;
    mod stores;
    mod survival;
    mod workflows;
    mod written;
}
