//! `bench`: measures, prints a table, and judges nothing. See tests/benches/README.md.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use outlast_tests::bench::figure::Figure;
use outlast_tests::bench::{ALL, Bench, Context, machine, ready, recovery};
use outlast_tests::end::End;
use outlast_tests::interrupt;
use outlast_tests::place::Place;

/// Measures Outlast in multiples of what the machine itself does.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Benchmarks to run: exact names, or leading parts of them. All without any.
    names: Vec<String>,
    /// Prints one JSON object for each figure instead of a table.
    #[arg(long)]
    json: bool,
    /// Lists the benchmarks.
    #[arg(long)]
    list: bool,
    /// Pairs of measurement and yardstick for each figure, at least 11.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u64).range(11..=10_000))]
    pairs: u64,
    /// Directory for checkpoint files.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| word == recovery::HOLDER_WORD) {
        return recovery::holder();
    }
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some((word, rest)) = words.split_first()
        && word == ready::WORD
    {
        return ready::worker(rest);
    }
    let arguments = Arguments::parse();
    if arguments.list {
        ALL.iter().for_each(|bench| println!("{:<18} {}", bench.name, bench.about));
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            eprintln!("bench: {end}");
            ExitCode::from(match end {
                End::Usage(_) => 2,
                End::Interrupted => 130,
                _ => 100,
            })
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), End> {
    let chosen = choose(&arguments.names)?;
    let context = Context {
        pairs: arguments.pairs as usize,
        directory: arguments.directory.clone(),
        place: Place::open_default(0)?,
        stop: interrupt::install().map_err(End::Failed)?,
    };
    let files = machine::describe_directory(&context.directory);
    if !arguments.json {
        println!("{}; files on {files}; {} pairs\n\n{}", machine::describe(), context.pairs, Figure::HEAD);
    }
    for bench in chosen {
        match (bench.run)(&context) {
            Ok(figures) => figures.iter().for_each(|figure| print(figure, bench, arguments.json)),
            Err(End::Skipped(reason)) => eprintln!("{}: skipped: {reason}", bench.name),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn print(figure: &Figure, bench: &Bench, json: bool) {
    if json {
        println!("{}", figure.json(bench.name));
    } else {
        println!("{}", figure.row(bench.name));
    }
}

/// The benchmarks that `names` select.
fn choose(names: &[String]) -> Result<Vec<&'static Bench>, End> {
    let is_part = |name: &str, bench: &Bench| {
        bench.name == name || bench.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(name) = names.iter().find(|name| !ALL.iter().any(|bench| is_part(name, bench))) {
        return Err(End::Usage(format!("no benchmark is called {name}: see bench --list")));
    }
    let wanted = |bench: &Bench| names.is_empty() || names.iter().any(|name| is_part(name, bench));
    Ok(ALL.iter().filter(|bench| wanted(bench)).collect())
}
