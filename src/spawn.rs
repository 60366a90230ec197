//! [`spawn`]: starts a task, which has a name where tokio shows names.

use std::fmt;
use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Starts a task. With `--cfg tokio_unstable` it has the name, for tokio-console; without, nothing is
/// formatted.
#[track_caller]
pub(crate) fn spawn<F>(
    runtime: &Handle,
    name: fmt::Arguments<'_>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[cfg(not(tokio_unstable))]
    {
        let _ = name;
        runtime.spawn(future)
    }
    #[cfg(tokio_unstable)]
    {
        let name = name.to_string();
        let task = tokio::task::Builder::new().name(&name);
        // Only threads can be wanting, for tasks that block.
        task.spawn_on(future, runtime)
            .expect("tokio takes every future")
    }
}

#[cfg(all(test, tokio_unstable))]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    #[derive(Clone, Default)]
    struct Names(Arc<Mutex<Vec<String>>>);

    impl Visit for Names {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "task.name" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    impl Subscriber for Names {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            span.record(&mut self.clone());
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_task_has_the_name_that_it_was_given() {
        let names = Names::default();
        let _guard = tracing::subscriber::set_default(names.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let task = spawn(runtime.handle(), format_args!("websocket {}", 7), async {});
        runtime.block_on(task).unwrap();
        // `block_on` is a task too, without a name.
        assert_eq!(names.0.lock().unwrap()[0], "websocket 7");
    }
}
