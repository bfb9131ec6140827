//! The cached type, and its data.

use std::fmt;

use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

/// An airport. It is stored under `airport:` and its code, for an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "airport", ttl = "1h", version = 1)]
pub(crate) struct Airport {
    #[cached(key)]
    pub(crate) iata: String,
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) state: String,
    pub(crate) country: String,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

impl Airport {
    /// The airports of `data/airports.csv`, which is part of the program.
    pub(crate) fn all() -> csv::Result<Vec<Self>> {
        csv::Reader::from_reader(&include_bytes!("../data/airports.csv")[..])
            .deserialize()
            .collect()
    }
}

impl fmt::Display for Airport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.name, self.city, self.state)
    }
}

/// An airport in the application's next release: other fields, so another version, under the same
/// keys.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "airport", ttl = "1h", version = 2)]
pub(crate) struct AirportV2 {
    #[cached(key)]
    pub(crate) iata: String,
    pub(crate) name: String,
    pub(crate) position: (f64, f64),
}

impl fmt::Display for AirportV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (latitude, longitude) = self.position;
        write!(f, "{} at {latitude}, {longitude}", self.name)
    }
}

impl From<&Airport> for AirportV2 {
    fn from(airport: &Airport) -> Self {
        Self {
            iata: airport.iata.clone(),
            name: airport.name.clone(),
            position: (airport.latitude, airport.longitude),
        }
    }
}

impl fmt::Display for Runways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} m", self.lengths_in_metres)
    }
}

/// A mistake: another type with the same prefix.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "airport", ttl = "1h", version = 1)]
pub(crate) struct Runways {
    #[cached(key)]
    pub(crate) iata: String,
    pub(crate) lengths_in_metres: Vec<u32>,
}

impl Runways {
    pub(crate) fn of(airport: &Airport) -> Self {
        Self {
            iata: airport.iata.clone(),
            lengths_in_metres: vec![3_780, 3_231],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_holds_3376_airports_with_a_code_each() {
        let airports = Airport::all().unwrap();
        let codes: std::collections::HashSet<_> =
            airports.iter().map(|airport| &airport.iata).collect();
        assert_eq!((airports.len(), codes.len()), (3376, 3376));
        let quoted = airports.iter().find(|airport| airport.iata == "DBN");
        assert_eq!(quoted.unwrap().name, "W. H. \"Bud\" Barron");
    }
}
