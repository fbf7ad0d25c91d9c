//! Where a program runs: the CPU, or a GPU through wgpu; and how one is chosen by name.
//!
//! Not here: what runs there (see [`crate::run`]).

mod adapter;
pub mod gpu;
pub mod memory;
mod quiet;

use std::sync::Arc;

use crate::error::{Error, Result};

pub use adapter::AdapterSummary;

/// One of two; what runs on which is decided in [`crate::run`] only.
#[derive(Clone, Debug)]
pub enum Device {
    /// All cores, through rayon.
    Cpu,
    /// An adapter of Vulkan, Metal or DirectX 12.
    Gpu(Arc<gpu::Gpu>),
}

/// A device that was chosen, and what to tell the person who asked for it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The device.
    pub device: Device,
    /// Its name: `CPU: AMD EPYC 7763, 2 threads`.
    pub description: String,
    /// One line, if the choice may surprise.
    pub note: Option<String>,
}

impl Device {
    /// Finds the device called `wanted`: `cpu`; `auto`, the first hardware adapter, else the CPU; `gpu`, any adapter,
    /// hardware before software; an adapter's number in [`Device::list`]; or a part of its name. Case is ignored.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such adapter, or if it cannot be opened and was not `auto`'s choice.
    pub fn choose(wanted: &str) -> Result<Choice> {
        let wanted = wanted.trim().to_lowercase();
        if wanted == "cpu" {
            return Ok(Choice::cpu(None));
        }
        let infos = Device::list();
        let (number, note) = match pick(&wanted, &infos, gpu::narrowed().as_deref())? {
            Pick::Adapter(number, note) => (number, note),
            Pick::Cpu(note) => return Ok(Choice::cpu(Some(note))),
        };
        let (info, adapter) = &gpu::adapters()[number];
        match gpu::Gpu::open(adapter, info.clone()) {
            Ok(gpu) => {
                Ok(Choice { device: Device::Gpu(Arc::new(gpu)), description: info.describe_among(&infos), note })
            }
            Err(error) if wanted == "auto" => Ok(Choice::cpu(Some(format!("{error}; using the CPU")))),
            Err(error) => Err(error),
        }
    }

    /// Nets that can train side by side on it, each in a fraction of the time.
    pub fn side_by_side(&self) -> usize {
        match self {
            Device::Cpu => 1,
            Device::Gpu(_) => gpu::NETS,
        }
    }

    /// Every adapter, those that `auto` likes best first; none is opened.
    pub fn list() -> Vec<AdapterSummary> {
        gpu::adapters().iter().map(|(info, _)| info.clone()).collect()
    }

    /// Why there is no adapter, and what to do about it.
    pub fn why_none() -> String {
        none_found(gpu::narrowed().as_deref())
    }

    /// The CPU's name and how many threads it runs: `CPU: AMD EPYC 7763, 2 threads`.
    pub fn describe_cpu() -> String {
        let threads = rayon::current_num_threads();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
        format!("CPU: {name}, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }
}

impl Choice {
    fn cpu(note: Option<String>) -> Self {
        Choice { device: Device::Cpu, description: Device::describe_cpu(), note }
    }
}

#[derive(Debug)]
enum Pick {
    /// The adapter's number, and a note if others match as well.
    Adapter(usize, Option<String>),
    Cpu(String),
}

/// What to say where there is no adapter; `narrowed` are the environment's variables that hide adapters.
fn none_found(narrowed: Option<&str>) -> String {
    match narrowed {
        Some(variables) => format!("no GPU adapter found with {variables} in the environment, which can hide adapters"),
        None => "no GPU adapter found (on Linux, a Vulkan driver is needed; Debian: mesa-vulkan-drivers)".to_string(),
    }
}

/// Which of `infos`, best first, is meant by `wanted` (in lower case).
fn pick(wanted: &str, infos: &[AdapterSummary], narrowed: Option<&str>) -> Result<Pick> {
    let names = || infos.iter().map(|info| info.name.as_str()).collect::<Vec<_>>().join(", ");
    if infos.is_empty() {
        return match (wanted, narrowed) {
            ("auto", None) => Ok(Pick::Cpu("no GPU adapter found; using the CPU".to_string())),
            ("auto", _) => Ok(Pick::Cpu(format!("{}; using the CPU", none_found(narrowed)))),
            (_, None) => Err(Error::Device(format!("{}; install one or use --device cpu", none_found(None)))),
            _ => Err(Error::Device(format!("{}; unset it or use --device cpu", none_found(narrowed)))),
        };
    }
    let numbers: Vec<usize> = match wanted {
        "auto" => infos.iter().position(|info| info.taken_by_auto).into_iter().collect(),
        "gpu" => vec![0],
        "" => Vec::new(),
        number if number.parse().is_ok_and(|number: usize| number < infos.len()) => {
            number.parse().into_iter().collect()
        }
        name => (0..infos.len()).filter(|&number| infos[number].name.to_lowercase().contains(name)).collect(),
    };
    match numbers[..] {
        [] if wanted == "auto" => {
            let note = format!("only software adapters found ({}); using the CPU, which is faster", names());
            Ok(Pick::Cpu(note))
        }
        [] => Err(Error::Device(format!(
            "no adapter called \"{wanted}\"; there are: {}; or use --device auto, gpu or cpu",
            names()
        ))),
        [number] => Ok(Pick::Adapter(number, None)),
        [first, ..] => {
            let others = numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let note = format!("\"{wanted}\" is part of the names of adapters {others}; taking {first}");
            Ok(Pick::Adapter(first, Some(format!("{note} (--device takes the number, too)"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: &'static str) -> AdapterSummary {
        AdapterSummary {
            number: 0,
            name: name.to_string(),
            backend: "vulkan".to_string(),
            kind,
            driver: String::new(),
            software: kind == "software",
            taken_by_auto: false,
            max_buffer_bytes: 1 << 28,
            max_binding_bytes: 1 << 27,
            max_storage_buffers: 8,
            max_workgroup_bytes: 16_384,
        }
    }

    fn ranked(infos: &[AdapterSummary]) -> Vec<AdapterSummary> {
        gpu::rank(infos.iter().map(|info| (info.clone(), ())).collect()).into_iter().map(|(info, ())| info).collect()
    }

    /// The name of the adapter picked, or the note or error.
    fn picked(wanted: &str, infos: &[AdapterSummary]) -> std::result::Result<String, String> {
        match pick(wanted, infos, None) {
            Ok(Pick::Adapter(number, _)) => Ok(infos[number].name.clone()),
            Ok(Pick::Cpu(note)) => Ok(note),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn auto_prefers_discrete_hardware_and_never_takes_software() {
        let soft = info("llvmpipe (LLVM 15.0.6, 256 bits)", "software");
        let (small, large) = (info("Intel UHD", "integrated"), info("GeForce", "discrete"));
        let all = ranked(&[soft.clone(), small.clone(), large]);
        assert_eq!(all.iter().map(|i| i.taken_by_auto).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(picked("auto", &all).unwrap(), "GeForce");
        assert_eq!(picked("auto", &ranked(&[soft.clone(), small])).unwrap(), "Intel UHD");
        let only_soft = ranked(&[soft]);
        let note = picked("auto", &only_soft).unwrap();
        assert!(note.contains("llvmpipe") && note.contains("using the CPU"), "{note}");
        assert_eq!(picked("gpu", &only_soft).unwrap(), "llvmpipe (LLVM 15.0.6, 256 bits)");
        assert_eq!(picked("auto", &[]).unwrap(), "no GPU adapter found; using the CPU");
    }

    #[test]
    fn a_part_of_a_name_is_enough_and_a_wrong_one_lists_the_right_ones() {
        let all = ranked(&[info("llvmpipe", "software"), info("GeForce RTX 4090", "discrete")]);
        assert_eq!(picked("pipe", &all).unwrap(), "llvmpipe");
        assert_eq!(picked("rtx", &all).unwrap(), "GeForce RTX 4090");
        let message = picked("radeon", &all).unwrap_err();
        assert!(message.contains("\"radeon\"") && message.contains("GeForce RTX 4090, llvmpipe"), "{message}");
        assert!(picked("", &all).is_err());
        for wanted in ["gpu", "radeon"] {
            let message = picked(wanted, &[]).unwrap_err();
            assert!(message.contains("mesa-vulkan-drivers") && message.contains("--device cpu"), "{message}");
        }
    }

    #[test]
    fn adapters_of_one_name_are_told_apart_by_number() {
        let all =
            ranked(&[info("llvmpipe", "software"), info("NVIDIA H200", "discrete"), info("NVIDIA H200", "discrete")]);
        assert_eq!(all.iter().map(|info| info.number).collect::<Vec<_>>(), [0, 1, 2]);
        let picked = |wanted: &str| match pick(wanted, &all, None).unwrap() {
            Pick::Adapter(number, note) => (number, note),
            Pick::Cpu(note) => panic!("{note}"),
        };
        assert_eq!((picked("0"), picked("1"), picked("2")), ((0, None), (1, None), (2, None)));
        let (number, note) = picked("h200");
        assert_eq!(number, 0);
        assert!(note.unwrap().contains("adapters 0, 1; taking 0"));
        // A number that no adapter has is part of a name.
        assert_eq!(picked("200").0, 0);
        assert!(pick("3", &all, None).is_err());
        assert_eq!(all[1].describe_among(&all), "NVIDIA H200 (vulkan, discrete), number 1");
        assert_eq!(all[2].describe_among(&all), "llvmpipe (vulkan, software)");
    }

    #[test]
    fn a_variable_that_hides_the_adapters_is_named() {
        let hidden = Some("WGPU_BACKEND=\"gl\"");
        let error = pick("gpu", &[], hidden).unwrap_err().to_string();
        assert!(error.contains("WGPU_BACKEND=\"gl\"") && !error.contains("driver"), "{error}");
        match pick("auto", &[], hidden).unwrap() {
            Pick::Cpu(note) => {
                assert!(note.contains("WGPU_BACKEND=\"gl\"") && note.ends_with("using the CPU"), "{note}")
            }
            Pick::Adapter(..) => panic!("there is none"),
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let choice = Device::choose(" CPU ").unwrap();
        assert!(matches!(choice.device, Device::Cpu) && choice.note.is_none());
        let threads = std::thread::available_parallelism().unwrap();
        assert!(choice.description.contains(&format!(", {threads} thread")), "{}", choice.description);
    }

    #[test]
    fn auto_agrees_with_the_list() {
        let choice = Device::choose("auto").unwrap();
        match Device::list().iter().find(|info| info.taken_by_auto) {
            Some(info) => assert!(!info.software && (choice.description == info.describe() || choice.note.is_some())),
            None => assert!(matches!(choice.device, Device::Cpu) && choice.note.is_some()),
        }
    }
}
