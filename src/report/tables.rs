//! Tables for the terminal and for Markdown: replication beside the published numbers, confusion matrix, curve.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::train::evaluate::Accuracies;
use crate::train::fit::Epoch;
use crate::train::results::{Results, Run};

use super::published::{self, Value};
use super::{
    SYNTHETIC, Section, clean, counted, data_label, data_labels, experiment, group_names, groups, is_augmented,
    last_runs, variant,
};

/// A rule below the header and nothing else: the study's tables fit eighty columns.
pub const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Cells of text, shown on a terminal or written as Markdown.
struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// So many columns stand left, the rest right.
    left: usize,
}

impl Grid {
    fn new(header: &[&str], left: usize) -> Self {
        Grid { header: header.iter().map(ToString::to_string).collect(), rows: Vec::new(), left }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        // Cells are never broken: a narrow terminal may wrap a line, but every number stays whole.
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.header);
        table.add_rows(&self.rows);
        for column in table.column_iter_mut().skip(self.left) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> =
            (0..self.header.len()).map(|k| if k < self.left { "---" } else { "---:" }.to_string()).collect();
        let escaped = |cells: &Vec<String>| line(&cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>());
        escaped(&self.header) + &line(&rule) + &self.rows.iter().map(escaped).collect::<String>()
    }
}

/// A class may be called `<rock>` or `a|b`; Markdown must show just that.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '|' | '<' | '>' | '&' | '*' | '_' | '`' | '[' | ']' | '#' | '~') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Mean and sample standard deviation (n - 1); none for fewer than two values.
fn mean_sd(values: &[f64]) -> Value {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.len() > 1).then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    Value { mean, sd }
}

fn shown(value: Value) -> String {
    match value.sd {
        Some(sd) => format!("{:.2} ± {sd:.2}", value.mean),
        None => format!("{:.2}", value.mean),
    }
}

/// What was varied within a group, counted: `3 seeds`, `4 folds`.
pub(super) fn repeats(group: &[&Run]) -> String {
    let first = &group[0].config;
    let seeds = group.iter().any(|run| run.config.seed != first.seed);
    let folds = group.iter().any(|run| run.config.data.fold != first.data.fold);
    let splits = group.iter().any(|run| run.config.data.seed != first.data.seed);
    counted(
        group.len(),
        match (seeds, folds, splits) {
            // a seed decides the split too, unless that has a seed of its own
            (_, false, false) | (true, false, true) => "seed",
            (false, true, false) => "fold",
            (false, false, true) => "split",
            _ => "run",
        },
    )
}

fn replication_grid(runs: &[Run]) -> Grid {
    let header = ["model", "numbers", "data", "epochs", "n", "raw", "max", "max (prob.)", "maj"];
    let mut grid = Grid::new(&header, 3);
    let groups = groups(runs);
    // The published number that stands beside a group: after 200 epochs where ours were 200, else after 100.
    let beside = |group: &[&Run]| {
        let Results { model, epochs, .. } = group[0].results;
        (experiment(&group[0].config, is_augmented(group[0])), model, if epochs == 200 { 200 } else { 100 })
    };
    for (place, (group, what)) in groups.iter().zip(group_names(&groups)).enumerate() {
        let results = &group[0].results;
        let over = |pick: fn(&Accuracies) -> f64| {
            shown(mean_sd(&group.iter().map(|run| pick(&run.results.accuracies)).collect::<Vec<_>>()))
        };
        grid.rows.push(vec![
            results.model.to_string(),
            format!("ours{}", what.strip_prefix(&results.model.to_string()).unwrap_or_default()),
            data_label(&results.data),
            results.epochs.to_string(),
            repeats(group),
            over(|a| a.raw),
            over(|a| a.max),
            over(|a| a.max_probabilities),
            over(|a| a.maj),
        ]);
        if groups[place + 1..].iter().any(|later| beside(later) == beside(group)) {
            continue;
        }
        let (experiment, model, epochs) = beside(group);
        for row in experiment.into_iter().flat_map(|experiment| published::rows(experiment, model, epochs)) {
            let maybe = |value: Option<Value>| value.map_or("–".to_string(), shown);
            grid.rows.push(vec![
                model.to_string(),
                row.source.to_string(),
                "GTZAN, ten genres".to_string(),
                epochs.to_string(),
                if row.source == published::PAPER { "4 folds" } else { "1 run" }.to_string(),
                shown(row.raw),
                maybe(row.max),
                "–".to_string(),
                maybe(row.maj),
            ]);
        }
    }
    grid
}

/// What must be read with the replication table: the data, `synthetic`, the epochs, the seeds, and what stands beside.
/// One sentence an entry.
pub fn caption(runs: &[Run]) -> Vec<String> {
    if runs.is_empty() {
        return vec!["no finished runs".to_string()];
    }
    let mut lines = vec![format!("data: {}", data_labels(runs))];
    if runs.iter().any(|run| run.results.data.synthetic) {
        lines.push(SYNTHETIC.to_string());
    }
    lines.extend(
        [
            "accuracies in percent on the test set; raw: of segments; max and maj: of tracks",
            "max: largest sum of logits; max (prob.): largest sum of probabilities; maj: majority vote of the segments",
            "published numbers are on ten-genre GTZAN, 1,000 tracks of 30 s",
            "report: Wyborn, Butt and Klas, one 750/250 split; its max sums logits, as its code does",
            "paper: Schindler, Lidy and Rauber 2016, mean ± sd over 4 folds; its max sums probabilities, as its text says",
        ]
        .map(String::from),
    );
    let mut add = |line: String| {
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    for group in groups(runs) {
        let Results { data, epochs, .. } = &group[0].results;
        let classes = data.classes.len();
        if !data.synthetic && classes != 10 {
            let label = data_label(data);
            add(format!("{label} has {classes} classes, GTZAN ten: not the task of the published numbers"));
        }
        if *epochs < 100 {
            add(format!(
                "ours after {}, fewer than the 100 of the published numbers",
                counted(*epochs as usize, "epoch")
            ));
        }
        let n = repeats(&group);
        match group.len() {
            1 => add(format!("{n}: the spread is not known")),
            2..5 => add(format!("± is the standard deviation (n - 1) over {n}: few")),
            _ => add(format!("± is the standard deviation (n - 1) over {n}")),
        }
    }
    lines
}

/// The nets' accuracies, mean ± sd over seeds, each followed by the published ones, within eighty columns. Print
/// [`caption`] with it, which says what the numbers are of, or use [`replication_text`]. Without runs there is only a header.
pub fn replication(runs: &[Run]) -> Table {
    let mut grid = replication_grid(runs);
    (grid.header[3], grid.header[7]) = ("ep".to_string(), "prob.".to_string());
    let common = common_part(&grid);
    for cells in std::iter::once(&mut grid.header).chain(&mut grid.rows) {
        cells.remove(2);
        if let Some(own) = cells[1].strip_prefix("ours").and_then(|what| what.strip_prefix(&common)) {
            cells[1] = format!("ours{own}");
        } else if let Some(comma) = cells[1].find(',').filter(|_| !cells[1].starts_with("ours")) {
            cells[1].truncate(comma);
        }
        cells.iter_mut().for_each(|cell| *cell = cell.replace(" ± ", "±"));
    }
    grid.left = 2;
    grid.table()
}

/// What follows `ours` in every row of ours, in whole parts: `, preset report`.
fn common_part(grid: &Grid) -> String {
    let mut ours = grid.rows.iter().filter_map(|row| row[1].strip_prefix("ours"));
    let first: Vec<&str> = ours.next().unwrap_or_default().split(", ").collect();
    let alike = |what: &str| first.iter().zip(what.split(", ")).take_while(|(a, b)| **a == *b).count();
    let parts = ours.map(alike).min().unwrap_or(first.len());
    first[..parts].join(", ")
}

/// [`replication`] with its caption, for a terminal; ends with a line break.
pub fn replication_text(runs: &[Run]) -> String {
    let notes: String = caption(runs).iter().skip(1).map(|line| format!("  {line}\n")).collect();
    let common = common_part(&replication_grid(runs));
    format!("Results on {}{common}\n\n{}\n\n{notes}", data_labels(runs), replication(runs))
}

/// [`replication`] with its caption, in Markdown.
pub fn replication_markdown(runs: &[Run]) -> String {
    let notes: String = caption(runs).iter().map(|line| format!("- {}\n", escape(line))).collect();
    format!("{}\n{notes}", replication_grid(runs).markdown())
}

/// Short names for the columns of a confusion matrix: the first two letters, or as many up to five as tell all classes
/// apart, or else the classes' numbers, from 1.
pub fn abbreviations(classes: &[String]) -> Vec<String> {
    for length in 2..=5 {
        let short: Vec<String> =
            classes.iter().map(|class| clean(class, usize::MAX).chars().take(length).collect()).collect();
        let mut different = short.clone();
        different.sort();
        different.dedup();
        if different.len() == classes.len() {
            return short;
        }
    }
    (1..=classes.len()).map(|number| number.to_string()).collect()
}

/// Names for the rows, of at most `longest` characters; with the class's number where [`abbreviations`] are numbers.
pub(super) fn row_names(classes: &[String], longest: usize) -> Vec<String> {
    let numbered = abbreviations(classes).first().is_some_and(|first| first == "1");
    let name = |(k, class): (usize, &String)| {
        let class = clean(class, longest);
        if numbered { format!("{} {class}", k + 1) } else { class }
    };
    classes.iter().enumerate().map(name).collect()
}

/// Share of `row` on the diagonal, in percent.
pub(super) fn class_accuracy(row: &[u32], class: usize) -> Option<f64> {
    let total: u64 = row.iter().map(|&count| u64::from(count)).sum();
    let right = row.get(class).copied().unwrap_or_default();
    (total > 0).then(|| 100.0 * f64::from(right) / total as f64)
}

fn confusion_grid(results: &Results) -> Grid {
    let mut grid = Grid::new(&["truth"], 1);
    grid.header.extend(abbreviations(&results.data.classes));
    grid.header.push("correct, %".to_string());
    for (k, (name, row)) in row_names(&results.data.classes, 32).into_iter().zip(&results.confusion).enumerate() {
        let accuracy = class_accuracy(row, k).map_or("–".to_string(), |percent| format!("{percent:.1}"));
        let counts = row.iter().map(u32::to_string);
        grid.rows.push(std::iter::once(name).chain(counts).chain([accuracy]).collect());
    }
    grid
}

/// What a confusion matrix shows: `deep, preset report, 20 epochs, seed 1, synthetic corpus`, then how to read it.
fn confusion_caption(run: &Run) -> String {
    let Results { epochs, seed, data, .. } = &run.results;
    format!(
        "{}, {}, seed {seed}, {}: truth on the left, predictions by max (largest sum of logits) along the top, in tracks",
        variant(run),
        counted(*epochs as usize, "epoch"),
        data_label(data)
    )
}

/// The confusion matrix as the report's figure 7 has it: truth on the left, predictions by max on top, in tracks.
pub fn confusion(results: &Results) -> Table {
    confusion_grid(results).table()
}

/// [`confusion`] with a caption, in Markdown.
pub fn confusion_markdown(run: &Run) -> String {
    format!("{}\n{}\n", confusion_grid(&run.results).markdown(), escape(&confusion_caption(run)))
}

/// Rows shown of a curve.
const CURVE_ROWS: usize = 8;

fn curves_grid(epochs: &[Epoch]) -> Grid {
    let mut grid = Grid::new(&["epoch", "learning rate", "training loss (sum)", "training raw, %", "test raw, %"], 0);
    let count = epochs.len().min(CURVE_ROWS);
    for k in 0..count {
        // First and last are always among them.
        let epoch = &epochs[k * (epochs.len() - 1) / (count - 1).max(1)];
        grid.rows.push(vec![
            epoch.epoch.to_string(),
            format!("{:.2e}", epoch.learning_rate),
            format!("{:.2}", epoch.loss),
            format!("{:.2}", epoch.train_accuracy),
            format!("{:.2}", epoch.test_accuracy),
        ]);
    }
    grid
}

/// The first, some and the last of `epochs`.
pub fn curves(epochs: &[Epoch]) -> Table {
    curves_grid(epochs).table()
}

/// Everything as one Markdown document, `tables.md`.
pub fn document(sections: &[Section]) -> String {
    let runs = last_runs(sections);
    let mut text = format!("# Results on {}\n", escape(&data_labels(&runs)));
    for Section { title, runs } in sections {
        text += &format!("\n## {}\n\n{}", escape(title), replication_markdown(runs));
    }
    for run in &runs {
        let Results { seed, device, parameters, seconds, .. } = &run.results;
        text += &format!("\n## {}, seed {seed}\n\n", escape(&variant(run)));
        if run.results.data.synthetic {
            text += &format!("{SYNTHETIC}\n\n");
        }
        let device = escape(&clean(device, 80));
        text += &format!("{parameters} parameters; trained and tested in {seconds:.0} s on {device}\n\n");
        text += &format!("{}\n", curves_grid(&run.epochs).markdown());
        text += &confusion_markdown(run);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_sample_deviation_by_hand() {
        let value = mean_sd(&[60.0, 62.0, 67.0]);
        assert_eq!(value.mean, 63.0);
        // (9 + 1 + 16) / 2 = 13
        assert_eq!(value.sd, Some(13f64.sqrt()));
        assert_eq!(shown(value), "63.00 ± 3.61");
        assert_eq!(shown(mean_sd(&[60.0])), "60.00");
    }

    #[test]
    fn abbreviations_tell_classes_apart() {
        let of = |classes: &[&str]| abbreviations(&classes.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&published::GENRES), ["bl", "cl", "co", "di", "hi", "ja", "me", "po", "re", "ro"]);
        assert_eq!(of(&["rap", "rave", "rag"]), ["rap", "rav", "rag"]);
        assert_eq!(of(&["pop rock", "pop rap"]), ["1", "2"]);
        assert_eq!(of(&["é", "ü\n"]), ["é", "ü\u{fffd}"]);
    }

    #[test]
    fn markdown_shows_odd_names_as_they_are() {
        assert_eq!(escape("<rock>|r&b"), r"\<rock\>\|r\&b");
    }

    #[test]
    fn a_curve_keeps_first_and_last() {
        let epoch = |epoch| Epoch { epoch, learning_rate: 5e-5, loss: 1.0, train_accuracy: 50.0, test_accuracy: 40.0 };
        let shown = |n: u32| -> Vec<String> {
            let epochs: Vec<Epoch> = (1..=n).map(epoch).collect();
            curves_grid(&epochs).rows.iter().map(|row| row[0].clone()).collect()
        };
        assert!(shown(0).is_empty());
        assert_eq!(shown(1), ["1"]);
        assert_eq!(shown(2), ["1", "2"]);
        assert_eq!(shown(8).len(), 8);
        assert_eq!(shown(100), ["1", "15", "29", "43", "57", "71", "85", "100"]);
    }
}
