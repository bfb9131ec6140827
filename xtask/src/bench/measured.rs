//! The figures of the bench `report`: as it writes them, and as ratios.

use benches::statistics::Quartiles;
use serde_json::Value;

use crate::Result;

/// A contender's name, and its figures round by round.
type Series = (String, Vec<f64>);

/// An operation of a size with some tasks.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) operation: String,
    pub(crate) size: String,
    pub(crate) tasks: u64,
    /// In operations a second. The first contender is the reference of the others.
    pub(crate) throughput: Vec<Series>,
}

/// The times of `get` with some tasks.
#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) tasks: u64,
    /// In microseconds, for each of [`Latency::PARTS`]. The first contender is the reference.
    pub(crate) micros: [Vec<Series>; 3],
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) groups: Vec<Group>,
    pub(crate) latencies: Vec<Latency>,
}

impl Group {
    /// The ratio of a contender to another one.
    pub(crate) fn ratio_to(&self, contender: &str, other: &str) -> Option<Quartiles> {
        ratio(&self.throughput, contender, other)
    }

    /// The ratio of a contender to the reference.
    pub(crate) fn ratio(&self, contender: &str) -> Option<Quartiles> {
        self.ratio_to(contender, &self.throughput.first()?.0)
    }

    /// The median throughput of the reference.
    pub(crate) fn reference(&self) -> f64 {
        let reference = self.throughput.first().map(|(_, rounds)| rounds.clone());
        Quartiles::of(reference.unwrap_or_default()).median
    }
}

impl Latency {
    /// The parts of the operations that end within these times.
    pub(crate) const PARTS: [&str; 3] = ["p50", "p99", "p999"];

    /// The ratio of a contender's times to those of another one, for a part by its position.
    pub(crate) fn ratio_to(&self, part: usize, contender: &str, other: &str) -> Option<Quartiles> {
        ratio(&self.micros[part], contender, other)
    }
}

fn ratio(series: &[Series], contender: &str, other: &str) -> Option<Quartiles> {
    let of = |name: &str| Some(&series.iter().find(|(other, _)| other == name)?.1);
    Some(Quartiles::of_ratios(of(contender)?, of(other)?))
}

impl Measured {
    pub(crate) fn parse(json: &Value) -> Result<Self> {
        let groups = list(&json["throughput"])?.iter().map(|group| {
            Ok(Group {
                operation: text(&group["operation"])?,
                size: text(&group["size"])?,
                tasks: group["tasks"].as_u64().ok_or("a group without tasks")?,
                throughput: series(&group["contenders"], "throughput")?,
            })
        });
        let latencies = list(&json["latency"])?.iter().map(|latency| {
            let part = |name| series(&latency["contenders"], name);
            let [p50, p99, p999] = Latency::PARTS;
            Ok(Latency {
                tasks: latency["tasks"].as_u64().ok_or("latencies without tasks")?,
                micros: [part(p50)?, part(p99)?, part(p999)?],
            })
        });
        Ok(Self {
            groups: groups.collect::<Result<_>>()?,
            latencies: latencies.collect::<Result<_>>()?,
        })
    }

    /// A group, if it was measured.
    pub(crate) fn group(&self, operation: &str, size: &str, tasks: u64) -> Option<&Group> {
        self.groups.iter().find(|group| {
            (&*group.operation, &*group.size, group.tasks) == (operation, size, tasks)
        })
    }
}

fn list(json: &Value) -> Result<&Vec<Value>> {
    json.as_array()
        .ok_or_else(|| "the figures lack a list".into())
}

fn text(json: &Value) -> Result<String> {
    let text = json.as_str().ok_or("the figures lack a name")?;
    Ok(text.to_owned())
}

fn series(contenders: &Value, figures: &str) -> Result<Vec<Series>> {
    let contenders = list(contenders)?.iter();
    let of = |contender: &Value| {
        let rounds = list(&contender[figures])?.iter().filter_map(Value::as_f64);
        Ok((text(&contender["name"])?, rounds.collect()))
    };
    contenders.map(of).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use benches::OWN;
    use serde_json::json;

    /// Three rounds of `get` with 8 tasks, and its latencies.
    pub(crate) fn measured() -> Measured {
        let figures = json!({
            "throughput": [{
                "operation": "get", "size": "200 B", "tasks": 8,
                "contenders": [
                    { "name": benches::BARE, "throughput": [100.0, 200.0, 50.0] },
                    { "name": benches::RUSTIS, "throughput": [110.0, 180.0, 55.0] },
                    { "name": OWN, "throughput": [120.0, 200.0, 75.0] },
                ],
            }],
            "latency": [{
                "tasks": 64,
                "contenders": [
                    { "name": benches::BARE, "p50": [1.0], "p99": [4.0], "p999": [8.0] },
                    { "name": OWN, "p50": [1.0], "p99": [5.0], "p999": [8.0] },
                ],
            }],
        });
        Measured::parse(&figures).unwrap()
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_each_round() {
        let measured = measured();
        let group = measured.group("get", "200 B", 8).unwrap();
        let own = group.ratio(OWN).unwrap();
        assert_eq!((own.low, own.median, own.high), (1.0, 1.2, 1.5));
        assert_eq!(group.reference(), 100.0);
        let rustis = group.ratio_to(OWN, benches::RUSTIS).unwrap();
        assert_eq!(rustis.median, 200.0 / 180.0);
        let p99 = measured.latencies[0].ratio_to(1, OWN, benches::BARE);
        assert_eq!(p99.unwrap().median, 1.25);
        assert!(measured.group("get", "200 B", 64).is_none());
        assert!(group.ratio("a stranger").is_none());
    }

    #[test]
    fn quartiles_enclose_the_middle_half() {
        let of = |figures: &[f64]| {
            let of = Quartiles::of(figures.iter().copied());
            (of.low, of.median, of.high)
        };
        let nine = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0];
        assert_eq!(of(&nine), (3.0, 5.0, 7.0));
        assert_eq!(of(&[2.0]), (2.0, 2.0, 2.0));
        assert!(of(&[]).1.is_nan());
    }

    #[test]
    fn figures_without_names_are_refused() {
        let figures = json!({ "throughput": [{ "tasks": 1, "contenders": [] }], "latency": [] });
        assert!(Measured::parse(&figures).is_err());
    }
}
