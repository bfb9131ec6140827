//! The runtime against the in-process store and real servers. One binary, so that its tests share
//! the servers.

#[macro_use]
mod stores;

mod alias;
mod alias_absences;
mod batch;
mod breaker;
mod builder;
mod close;
mod combined;
mod compressed;
mod conformance;
mod counter;
mod counting;
mod database;
mod encrypted;
mod failover;
mod faults;
mod functions;
mod guard_faults;
mod http;
mod invalidations;
mod kit;
mod layouts;
mod limiter;
mod loading;
mod loading_faults;
mod lock;
mod migrations;
mod modify;
mod near;
mod only_copy;
mod pressure;
mod refresh;
mod relay;
mod responses;
mod scan;
mod servers;
mod steady;
mod tags;
mod tags_faults;
mod tags_race;
mod telemetry;
mod testing_page;
mod validation;
mod values;
mod versions;
mod versions_page;
