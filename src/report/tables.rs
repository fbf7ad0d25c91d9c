//! Tables for the terminal and for Markdown: replication beside the published numbers and what the differences are
//! worth, confusion matrix, curve.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use clap::ValueEnum;
use unicode_width::UnicodeWidthStr;

use crate::baseline;
use crate::models::Architecture;
use crate::train::config::Config;
use crate::train::evaluate::{Accuracies, argmax};
use crate::train::metrics::Epoch;
use crate::train::results::{Results, Run};

use super::labels::{
    SYNTHETIC, Section, clean, counted, data_label, data_labels, experiment, group_names, groups, is_augmented, labels,
    last_runs, repeat, run_name, variant,
};
use super::published::{self, Value};
use super::stats::{Paired, difference, mean_sd};

/// A rule below the header and nothing else: the study's tables fit eighty columns.
pub const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Cells of text, shown on a terminal, written as Markdown, or (by the template of [`super::html`]) as HTML.
pub(super) struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// So many columns stand left, the rest right.
    left: usize,
}

impl Serialize for Grid {
    /// For the template: with the class of [`cards_below`].
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let longest = |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
        let column = |k: usize| {
            // headers wrap between words, and a number's interval is below it
            let header = longest(&mut self.header[k].split(' '));
            let parts = if k < self.left { "\n" } else { " (" };
            header.max(longest(&mut self.rows.iter().flat_map(|row| row[k].split(parts))))
        };
        let columns: Vec<usize> = (0..self.header.len()).map(column).collect();
        let mut fields = serializer.serialize_struct("Grid", 4)?;
        fields.serialize_field("header", &self.header)?;
        fields.serialize_field("rows", &self.rows)?;
        fields.serialize_field("left", &self.left)?;
        fields.serialize_field("cards", cards_below(&columns))?;
        fields.end()
    }
}

/// The page's class for a table whose `columns` are so many characters wide: below which width of the window its rows are
/// shown as cards, since they would not fit.
pub(super) fn cards_below(columns: &[usize]) -> &'static str {
    let letters: usize = columns.iter().sum();
    // a letter and a column's margins, in rem; margins are narrower on a phone
    let rem = |margins: f64| 0.51 * letters as f64 + margins * columns.len() as f64;
    match rem(1.2) {
        _ if rem(0.7) <= 21.0 => "",
        ..=26.0 => "below-30",
        ..=43.0 => "below-48",
        ..=58.0 => "below-64",
        ..=68.0 => "below-76",
        _ => "always",
    }
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
    counted_repeats(group.len(), seeds, folds, splits)
}

/// `n` of what varies: seeds, folds, or splits.
fn counted_repeats(n: usize, seeds: bool, folds: bool, splits: bool) -> String {
    let what = match (seeds, folds, splits) {
        // a seed decides the split too, unless that has a seed of its own
        (_, false, false) | (true, false, true) => "seed",
        (false, true, false) => "fold",
        (false, false, true) => "split",
        _ => "run",
    };
    counted(n, what)
}

/// One of the accuracies of every run of a group.
fn each(group: &[&Run], pick: fn(&Accuracies) -> f64) -> Vec<f64> {
    group.iter().map(|run| pick(&run.results.accuracies)).collect()
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
        let over = |pick| shown(mean_sd(&each(group, pick)));
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
                if row.source == published::PAPER {
                    counted(published::PAPER_FOLDS, "fold")
                } else {
                    "1 run".to_string()
                },
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
        if let Some(line) = majority(&group[0].results) {
            add(format!("{}: {line}", data_label(data)));
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

/// The accuracy of a guess that needs no net, if the classes are of unequal size: the largest class's share of the test
/// tracks.
pub fn majority(results: &Results) -> Option<String> {
    let sizes: Vec<u32> = results.confusion.iter().map(|row| row.iter().sum()).collect();
    let (total, smallest) = (sizes.iter().sum::<u32>(), *sizes.iter().min()?);
    let largest = argmax(&sizes);
    // A track more or less is the split's rounding.
    if 10 * u64::from(sizes[largest]) <= 11 * u64::from(smallest) {
        return None;
    }
    let class = results.data.classes.get(largest).map_or_else(String::new, |class| clean(class, 40));
    let share = 100.0 * f64::from(sizes[largest]) / f64::from(total);
    Some(format!("classes of unequal size: always answering {class} is right for {share:.1} % of the test tracks"))
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

/// `name` without what all the table's rows have in common: `deep, EXP`.
fn short(name: &str, model: Architecture, common: &str) -> String {
    let own = name.strip_prefix(&model.to_string()).unwrap_or(name);
    format!("{model}{}", own.strip_prefix(common).unwrap_or(own))
}

/// Differences to the published numbers of the same experiment after as many epochs; none on the built-in corpus.
///
/// Max is compared with max as the source defines it: the report sums logits, the paper probabilities.
fn differences_grid(runs: &[Run], terminal: bool) -> Grid {
    let mut grid = Grid::new(&["ours", "data", "against", "epochs", "n", "raw", "max", "maj"], 3);
    let groups = groups(runs);
    let common = common_part(&replication_grid(runs));
    for (group, name) in groups.iter().zip(group_names(&groups)) {
        let Results { model, epochs, ref data, .. } = group[0].results;
        let experiment = experiment(&group[0].config, is_augmented(group[0])).filter(|_| !data.synthetic);
        for row in experiment.into_iter().flat_map(|experiment| published::rows(experiment, model, epochs)) {
            let paper = row.source == published::PAPER;
            let n = if paper { published::PAPER_FOLDS } else { 1 };
            let cell = |pick, published: Option<Value>| {
                let Some(published) = published else { return "–".to_string() };
                let ours = each(group, pick);
                match difference(&ours, published, n) {
                    None => format!("{:+.2}", mean_sd(&ours).mean - published.mean),
                    Some(of) if terminal => format!("{:+.2}±{:.2}", of.difference, of.high - of.difference),
                    Some(of) => format!("{:+.2} ({:+.2} to {:+.2})", of.difference, of.low, of.high),
                }
            };
            grid.rows.push(vec![
                if terminal { short(&name, model, &common) } else { name.clone() },
                data_label(data),
                row.source.to_string(),
                epochs.to_string(),
                repeats(group),
                cell(|a| a.raw, Some(row.raw)),
                cell(if paper { |a| a.max_probabilities } else { |a| a.max }, row.max),
                cell(|a| a.maj, row.maj),
            ]);
        }
    }
    grid
}

/// What must be read with the differences, one sentence an entry.
fn differences_caption(runs: &[Run], terminal: bool) -> Vec<String> {
    let interval = if terminal { "after ±, half of" } else { "in parentheses," };
    let mut lines = vec![
        format!("differences, ours - published, in percentage points; {interval} the 95 % interval"),
        "the report is one run, taken as exact (Student's t); the paper's four folds vary as ours do (Welch's t)"
            .to_string(),
        "max against the report is of summed logits, against the paper of summed probabilities, as theirs are"
            .to_string(),
    ];
    let groups = groups(runs);
    if let Some(alone) = groups.iter().find(|group| group.len() == 1) {
        lines.push(format!("{}: no interval", repeats(alone)));
    }
    if groups.iter().any(|group| group.len() > 1 && group[0].config.data.folds > 0) {
        lines.push("folds share training tracks: their intervals are somewhat too narrow".to_string());
    }
    lines
}

/// Ours minus the published numbers, each with its 95 % interval where ours are two or more, within eighty columns; no
/// rows where there is nothing to compare with: on the built-in corpus, or after another number of epochs.
pub fn differences(runs: &[Run]) -> Table {
    let mut grid = differences_grid(runs, true);
    grid.header[3] = "ep".to_string();
    for cells in std::iter::once(&mut grid.header).chain(&mut grid.rows) {
        cells.remove(1);
        let named = cells[1].find(',').unwrap_or(cells[1].len());
        cells[1].truncate(named);
    }
    grid.left = 2;
    grid.table()
}

/// Shallow and deep runs of the same settings on the same test tracks; a cross-validation's folds together.
struct Pair<'a> {
    /// One shallow run a fold.
    runs: Vec<&'a Run>,
    paired: Paired,
}

/// What two runs have in common that are to be paired: everything but what makes the net.
fn setting(run: &Run) -> Config {
    let mut config = run.config.clone();
    let Config { model, dropout, dense_activation, .. } = Config::preset(config.preset, Architecture::Shallow);
    (config.model, config.dropout, config.dense_activation) = (model, dropout, dense_activation);
    config.epochs = run.results.epochs;
    config
}

fn pairs(runs: &[Run]) -> Vec<Pair<'_>> {
    let of = |model| runs.iter().filter(move |run| run.results.model == model);
    let mut deep: Vec<&Run> = of(Architecture::Deep).collect();
    let mut pairs: Vec<Pair> = Vec::new();
    for shallow in of(Architecture::Shallow) {
        let mine = setting(shallow);
        let partner = deep.iter().enumerate().filter(|(_, deep)| setting(deep) == mine);
        let Some((place, paired)) =
            partner.filter_map(|(place, deep)| Some((place, Paired::of(&shallow.results, &deep.results)?))).next()
        else {
            continue;
        };
        deep.remove(place);
        let other_fold = |pair: &&mut Pair| {
            let mut same = mine.clone();
            pair.runs.iter().all(|run| {
                same.data.fold = run.config.data.fold;
                same.data.fold != mine.data.fold && setting(run) == same
            })
        };
        match pairs.iter_mut().find(other_fold) {
            Some(pair) => {
                pair.runs.push(shallow);
                pair.paired = pair.paired.and(paired);
            }
            None => pairs.push(Pair { runs: vec![shallow], paired }),
        }
    }
    pairs
}

fn pairs_grid(runs: &[Run], terminal: bool) -> Grid {
    let mut grid = Grid::new(&["settings", "data", "epochs", "test tracks", "only shallow", "only deep", "p"], 2);
    let common = common_part(&replication_grid(runs));
    for Pair { runs, paired } in pairs(runs) {
        let Results { seed, epochs, ref data, model, .. } = runs[0].results;
        let config = &runs[0].config.data;
        let mut name = variant(runs[0]);
        if terminal {
            name = short(&name, model, &common);
        }
        let mut what: Vec<String> = name.split(", ").skip(1).map(ToString::to_string).collect();
        what.push(format!("seed {seed}"));
        if config.seed != seed {
            what.push(format!("split {}", config.seed));
        }
        if config.folds > 0 {
            let all = counted(config.folds, "fold");
            what.push(if runs.len() == config.folds { all } else { format!("{} of {all}", runs.len()) });
        }
        let p = paired.p();
        grid.rows.push(vec![
            what.join(", "),
            data_label(data),
            epochs.to_string(),
            paired.tracks.to_string(),
            paired.only_first.to_string(),
            paired.only_second.to_string(),
            if p < 0.001 { "< 0.001".to_string() } else { format!("{p:.3}") },
        ]);
    }
    grid
}

/// What must be read with the comparison of the nets, one sentence an entry.
fn pairs_caption() -> Vec<String> {
    [
        "shallow against deep on the same test tracks: how many only one of them got right (max, sum of logits)",
        "p: exact two-sided McNemar test; folds are taken together, seeds are not: their test sets overlap",
    ]
    .map(String::from)
    .to_vec()
}

/// Shallow against deep on the same test tracks, within eighty columns; no rows where no two runs are alike but for the
/// net.
pub fn shallow_against_deep(runs: &[Run]) -> Table {
    let mut grid = pairs_grid(runs, true);
    (grid.header[2], grid.header[3]) = ("ep".to_string(), "tracks".to_string());
    std::iter::once(&mut grid.header).chain(&mut grid.rows).for_each(|cells| drop(cells.remove(1)));
    grid.left = 1;
    grid.table()
}

/// [`replication`] with its caption, then, where there are any, [`differences`] and [`shallow_against_deep`], for a
/// terminal; ends with a line break.
pub fn replication_text(runs: &[Run]) -> String {
    let notes = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let common = common_part(&replication_grid(runs));
    let (all, after) = (replication(runs), notes(&caption(runs)[1..]));
    let mut text = format!("Results on {}{common}\n\n{all}\n\n{after}", data_labels(runs));
    for (table, lines) in
        [(differences(runs), differences_caption(runs, true)), (shallow_against_deep(runs), pairs_caption())]
    {
        if table.row_count() > 0 {
            text += &format!("\n{table}\n\n{}", notes(&lines));
        }
    }
    text
}

/// A table with what must be read with it.
#[derive(serde::Serialize)]
pub(super) struct Part {
    pub title: &'static str,
    pub grid: Grid,
    /// One sentence an entry.
    pub notes: Vec<String>,
}

impl Part {
    fn markdown(&self) -> String {
        let notes: String = self.notes.iter().map(|line| format!("- {}\n", escape(line))).collect();
        format!("{}\n{notes}", self.grid.markdown())
    }
}

/// All tables of `section`, each with its notes.
pub(super) fn parts(section: &Section) -> Vec<Part> {
    let Section { runs, baselines, .. } = section;
    let mut parts = if runs.is_empty() { Vec::new() } else { run_parts(runs) };
    if !baselines.is_empty() {
        let grid = baselines_grid(baselines);
        parts.push(Part { title: "what came before the nets", grid, notes: Vec::new() });
    }
    parts
}

/// [`replication`], then, where there are any, [`differences`] and [`shallow_against_deep`].
fn run_parts(runs: &[Run]) -> Vec<Part> {
    let part = |title, grid, notes| Part { title, grid, notes };
    let mut parts = vec![
        part("accuracies, ours beside the published ones", replication_grid(runs), caption(runs)),
        part("differences, ours - published", differences_grid(runs, false), differences_caption(runs, false)),
        part("shallow against deep", pairs_grid(runs, false), pairs_caption()),
    ];
    // the first one is there even without rows
    let mut first = true;
    parts.retain(|part| std::mem::take(&mut first) || !part.grid.rows.is_empty());
    parts
}

/// [`replication`] with its caption, then, where there are any, [`differences`] and [`shallow_against_deep`], in
/// Markdown.
pub fn replication_markdown(runs: &[Run]) -> String {
    run_parts(runs).iter().map(Part::markdown).collect::<Vec<_>>().join("\n")
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

pub(super) fn confusion_grid(results: &Results) -> Grid {
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
pub(super) fn confusion_caption(run: &Run) -> String {
    format!(
        "{}, {}: truth on the left, predictions by max (largest sum of logits) along the top, in tracks",
        run_name(run),
        data_label(&run.results.data)
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

/// Up to so many epochs are all shown.
const ALL_EPOCHS: usize = 20;

/// From one shown epoch to the next: 1, or a round number that leaves at most [`ALL_EPOCHS`] and a few rows.
fn shown_every(epochs: usize) -> usize {
    if epochs <= ALL_EPOCHS {
        return 1;
    }
    let round = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
    round.into_iter().find(|step| epochs / step <= ALL_EPOCHS).unwrap_or(epochs)
}

/// Which epochs a curve's table shows: `every epoch`, or `the first, every 10th and the last of 100 epochs`.
pub(super) fn curves_caption(epochs: &[Epoch]) -> String {
    match shown_every(epochs.len()) {
        1 => "every epoch".to_string(),
        step => format!("the first, every {step}{} and the last of {} epochs", ordinal(step), epochs.len()),
    }
}

/// `th`, `nd` and the like.
fn ordinal(number: usize) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

pub(super) fn curves_grid(epochs: &[Epoch]) -> Grid {
    let mut grid = Grid::new(&["epoch", "learning rate", "training loss (sum)", "training raw, %", "test raw, %"], 0);
    let step = shown_every(epochs.len());
    for (number, epoch) in (1..).zip(epochs) {
        if number == 1 || number % step == 0 || number == epochs.len() {
            grid.rows.push(vec![
                epoch.epoch.to_string(),
                format!("{:.2e}", epoch.learning_rate),
                format!("{:.2}", epoch.loss),
                format!("{:.2}", epoch.train_accuracy),
                format!("{:.2}", epoch.test_accuracy),
            ]);
        }
    }
    grid
}

/// The epochs that `curves_caption` names.
pub fn curves(epochs: &[Epoch]) -> Table {
    curves_grid(epochs).table()
}

/// [`curves`] with what it shows, for a terminal; ends with a line break.
pub fn curves_text(epochs: &[Epoch]) -> String {
    format!("{}\n  {}\n", curves(epochs), curves_caption(epochs))
}

/// [`confusion`] as far as it fits `width` columns, for a terminal; ends with a line break. Where genres are left out, the
/// line below says so and that `whole` has all of them.
pub fn confusion_text(results: &Results, width: usize, whole: &str) -> String {
    let classes = results.data.classes.len();
    let fits = |count: &usize| confusion_part(results, *count).table().lines().all(|line| line.width() <= width);
    let count = match fits(&classes) {
        true => classes,
        false => (1..classes).rev().find(fits).unwrap_or(1),
    };
    let table = confusion_part(results, count).table();
    match count == classes {
        true => format!("{table}\n"),
        false => format!("{table}\n  the first {count} of {classes} genres; all of them: {whole}\n"),
    }
}

/// The confusion matrix of the first `count` classes; the others are one column.
fn confusion_part(results: &Results, count: usize) -> Grid {
    let mut grid = confusion_grid(results);
    let classes = results.data.classes.len();
    if count < classes {
        grid.rows.truncate(count);
        grid.header.splice(1 + count..=classes, ["others".to_string()]);
        for (row, counts) in grid.rows.iter_mut().zip(&results.confusion) {
            let others: u64 = counts.iter().skip(count).map(|&tracks| u64::from(tracks)).sum();
            row.splice(1 + count..=classes, [others.to_string()]);
        }
    }
    grid
}

/// The baselines, mean ± sd over those on the same data by the same kind of split.
fn baselines_grid(baselines: &[baseline::Results]) -> Grid {
    let mut grid = Grid::new(&["baseline", "data", "split", "n", "raw", "max", "max (prob.)", "maj"], 3);
    let mut rest: Vec<&baseline::Results> = baselines.iter().collect();
    while let Some(first) = rest.first().copied() {
        let same = |other: &&baseline::Results| {
            (&other.data.name, &other.data.classes, other.split, other.settings)
                == (&first.data.name, &first.data.classes, first.split, first.settings)
        };
        let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(same);
        rest = others;
        let over = |pick: fn(&Accuracies) -> f64| {
            shown(mean_sd(&group.iter().map(|results| pick(&results.accuracies)).collect::<Vec<_>>()))
        };
        let varies = |same: fn(&baseline::Results, &baseline::Results) -> bool| group.iter().any(|r| !same(r, first));
        let (seeds, folds) = (varies(|a, b| a.seed == b.seed), varies(|a, b| a.fold == b.fold));
        let repeats = counted_repeats(group.len(), seeds, folds, false);
        let split = first.split.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
        grid.rows.push(vec![
            format!("MFCC, {} Gaussians a genre", first.settings.components),
            data_label(&first.data),
            split,
            repeats,
            over(|a| a.raw),
            over(|a| a.max),
            over(|a| a.max_probabilities),
            over(|a| a.maj),
        ]);
    }
    grid
}

/// A table with all that belongs to it, for a terminal.
pub fn section_text(section: &Section) -> String {
    let mut text = if section.runs.is_empty() { String::new() } else { replication_text(&section.runs) };
    if !section.baselines.is_empty() {
        text += &format!("\n{}\n", baselines_grid(&section.baselines).table());
    }
    text
}

/// A table with all that belongs to it, in Markdown.
pub fn section_markdown(section: &Section) -> String {
    parts(section).iter().map(Part::markdown).collect::<Vec<_>>().join("\n")
}

/// Everything as one Markdown document, `tables.md`.
pub fn document(sections: &[Section]) -> String {
    let runs = last_runs(sections);
    let baselines = sections.iter().flat_map(|section| &section.baselines);
    let data = runs.iter().map(|run| &run.results.data).chain(baselines.map(|baseline| &baseline.data));
    let mut text = format!("# Results on {}\n", escape(&labels(data)));
    for section in sections {
        text += &format!("\n## {}\n\n{}", escape(&section.title), section_markdown(section));
    }
    for run in &runs {
        let Results { device, parameters, seconds, .. } = &run.results;
        text += &format!("\n## {}, {}\n\n", escape(&variant(run)), repeat(run));
        if run.results.data.synthetic {
            text += &format!("{SYNTHETIC}\n\n");
        }
        let device = escape(&clean(device, 80));
        text += &format!("{parameters} parameters; trained and tested in {seconds:.0} s on {device}\n\n");
        text += &format!("{}\n{}\n\n", curves_grid(&run.epochs).markdown(), escape(&curves_caption(&run.epochs)));
        text += &confusion_markdown(run);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_shown_where_there_is_one() {
        assert_eq!(shown(mean_sd(&[60.0, 62.0, 67.0])), "63.00 ± 3.61");
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
    fn a_curve_shows_every_epoch_or_says_which() {
        let epoch = |epoch| Epoch { epoch, learning_rate: 5e-5, loss: 1.0, train_accuracy: 50.0, test_accuracy: 40.0 };
        let shown = |n: u32| -> (Vec<String>, String) {
            let epochs: Vec<Epoch> = (1..=n).map(epoch).collect();
            (curves_grid(&epochs).rows.iter().map(|row| row[0].clone()).collect(), curves_caption(&epochs))
        };
        assert!(shown(0).0.is_empty());
        for n in [1, 2, 8, 10, 20] {
            assert_eq!(shown(n), ((1..=n).map(|epoch| epoch.to_string()).collect(), "every epoch".to_string()));
        }
        let (rows, caption) = shown(21);
        assert_eq!(rows, ["1", "2", "4", "6", "8", "10", "12", "14", "16", "18", "20", "21"]);
        assert_eq!(caption, "the first, every 2nd and the last of 21 epochs");
        let (rows, caption) = shown(200);
        assert_eq!((rows.len(), &rows[1][..], &rows[20][..]), (21, "10", "200"));
        assert_eq!(caption, "the first, every 10th and the last of 200 epochs");
        assert_eq!(shown(12_345).0.len(), 14);
    }
}
