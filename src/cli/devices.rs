//! `genregrad devices`: what can compute here.

use std::process::ExitCode;

use comfy_table::Table;
use serde::Serialize;

use crate::device::{AdapterSummary, Choice, Device};
use crate::error::Result;
use crate::report::tables;

use super::output::{print, print_json};

/// List the devices, and say which one `--device auto` takes
///
/// Adapters are those of Vulkan, Metal or DirectX 12. A software adapter (a program that plays GPU) is never taken by
/// auto, because the CPU path is faster, but it can be named.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  genregrad devices
  genregrad gradcheck --device llvmpipe       an adapter by part of its name
  genregrad train --model deep --device 1     an adapter by its number, where two have one name")]
pub struct Args {
    /// Print the list as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    adapters: Vec<AdapterSummary>,
    cpu: String,
    /// What `--device auto` takes.
    auto: String,
    note: Option<String>,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let Choice { description, note, .. } = Device::choose("auto")?;
        let report = Report { adapters: Device::list(), cpu: Device::describe_cpu(), auto: description, note };
        if self.json {
            print_json(&report)?
        } else {
            print(&report.text())?
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.adapters.is_empty() {
            text += &format!("{}\n", Device::why_none());
        } else {
            let mut table = Table::new();
            table.load_style(tables::STYLE);
            table.set_header(["number", "adapter", "backend", "kind", "largest value", "workgroup"]);
            for info in &self.adapters {
                table.add_row([
                    info.number.to_string(),
                    info.name.clone(),
                    info.backend.clone(),
                    info.kind.to_string(),
                    format!("{} MiB", info.max_binding_bytes >> 20),
                    format!("{} KiB", info.max_workgroup_bytes >> 10),
                ]);
            }
            text += &format!("{table}\n");
        }
        text += &format!("{}\n\n--device auto takes {}\n", self.cpu, self.auto);
        self.note.iter().for_each(|note| text += &format!("({note})\n"));
        text
    }
}
