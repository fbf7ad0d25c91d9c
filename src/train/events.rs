//! The curve as TensorBoard's event file, what the report's authors watched: `tensorboard --logdir FOLDER` draws it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tfrecord::protobuf::event::What;
use tfrecord::protobuf::{Event, Summary};
use tfrecord::{EventMeta, RecordWriter};

use crate::error::{Error, Result};
use crate::files;

use super::fit::Epoch;

/// The event file within the run's folder.
pub(super) const FILE: &str = "events.out.tfevents.genregrad";

/// An event file that is being written.
pub(super) struct Events {
    path: PathBuf,
    writer: RecordWriter<Event, File>,
}

impl Events {
    /// Makes the run's event file, with the epochs that an earlier attempt finished.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    pub(super) fn start(folder: &Path, epochs: &[Epoch]) -> Result<Self> {
        let path = folder.join(FILE);
        let (file, _) = files::open_own(&path)?;
        file.set_len(0).map_err(Error::io("cannot write", &path))?;
        let writer = RecordWriter::from_writer(file).map_err(failed(&path))?;
        let mut events = Events { path, writer };
        events.send(|time| Event {
            wall_time: time,
            what: Some(What::FileVersion("brain.Event:2".to_string())),
            ..Event::default()
        })?;
        epochs.iter().try_for_each(|epoch| events.write(epoch))?;
        Ok(events)
    }

    /// Adds an epoch.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    pub(super) fn write(&mut self, epoch: &Epoch) -> Result<()> {
        for (tag, value) in [
            ("loss", epoch.loss),
            ("learning_rate", epoch.learning_rate),
            ("raw_accuracy/train", epoch.train_accuracy),
            ("raw_accuracy/test", epoch.test_accuracy),
        ] {
            let summary = Summary::from_scalar(tag, value as f32).map_err(failed(&self.path))?;
            self.send(|time| EventMeta::new(epoch.epoch.into(), time).build_with_summary(summary))?;
        }
        Ok(())
    }

    /// Appends what `event` makes of the time of day, s.
    fn send(&mut self, event: impl FnOnce(f64) -> Event) -> Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        self.writer.send(event(time)).map_err(failed(&self.path))
    }
}

fn failed(path: &Path) -> impl Fn(tfrecord::Error) -> Error + '_ {
    move |error| match error {
        tfrecord::Error::IoError(source) => Error::io("cannot write", path)(source),
        other => Error::data(path, other.to_string()),
    }
}
