//! The cases by which tower-sessions tests its stores, over its middleware. They are published with
//! it but not as something that can be called, so they are written again here; each is run in this
//! process and on a server.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use sessions::ValkeySessions;
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, Session, SessionManagerLayer};

use crate::both;
use crate::browser::Browser;

/// An application whose routes are the methods of a session.
fn app(sessions: &ValkeySessions, life: Option<Duration>, domain: Option<&'static str>) -> Router {
    let mut layer = SessionManagerLayer::new(sessions.clone());
    if let Some(life) = life {
        layer = layer.with_expiry(Expiry::OnInactivity(life));
    }
    if let Some(domain) = domain {
        layer = layer.with_domain(domain);
    }
    let read = async |session: Session| {
        let value = session.get_value("foo").await.expect("it is read");
        value.map_or("nothing".to_owned(), |value| value.to_string())
    };
    let insert = async |session: Session| session.insert("foo", 42).await.expect("it is read");
    let remove = async |session: Session| {
        session.remove_value("foo").await.expect("it is read");
    };
    let cycle = async |session: Session| session.cycle_id().await.expect("it is deleted");
    let flush = async |session: Session| session.flush().await.expect("it is deleted");
    let for_a_day = async |session: Session| {
        let tomorrow = OffsetDateTime::now_utc() + Duration::DAY;
        session.set_expiry(Some(Expiry::AtDateTime(tomorrow)));
    };
    let until_the_end = async |session: Session| session.set_expiry(Some(Expiry::OnSessionEnd));
    Router::new()
        .route("/", get(async |_: Session| "untouched"))
        .route("/get", get(read))
        .route("/insert", get(insert))
        .route("/remove", get(remove))
        .route("/cycle", get(cycle))
        .route("/flush", get(flush))
        .route("/for-a-day", get(for_a_day))
        .route("/until-the-end", get(until_the_end))
        .layer(layer)
}

const AN_HOUR: Option<Duration> = Some(Duration::HOUR);

#[tokio::test]
async fn a_request_that_inserts_nothing_gets_no_session() {
    for sessions in both().await {
        let answer = Browser::new(app(&sessions, AN_HOUR, None)).get("/").await;
        assert_eq!(answer.set_cookie, None);
    }
}

#[tokio::test]
async fn an_id_that_nobody_gave_out_is_not_taken() {
    const FORGED: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    for sessions in both().await {
        let mut browser = Browser::with_id(app(&sessions, AN_HOUR, None), FORGED);
        let answer = browser.get("/insert").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(browser.id.is_some_and(|id| id != FORGED));
    }
}

#[tokio::test]
async fn a_malformed_session_id_is_removed() {
    for sessions in both().await {
        let mut browser = Browser::with_id(app(&sessions, AN_HOUR, None), "malformed");
        let answer = browser.get("/").await;
        assert_eq!((answer.status, browser.id), (StatusCode::OK, None));
    }
}

#[tokio::test]
async fn a_new_session_has_a_cookie_that_scripts_and_other_sites_do_not_see() {
    for sessions in both().await {
        let answer = Browser::new(app(&sessions, AN_HOUR, None))
            .get("/insert")
            .await;
        let flags = ["HttpOnly", "Secure"].map(|flag| answer.says(flag));
        assert_eq!(flags, [Some(""), Some("")]);
        assert_eq!(answer.says("SameSite"), Some("Strict"));
        assert_eq!(answer.says("Path"), Some("/"));
        assert_eq!(answer.max_age(), Some(3600));
    }
}

#[tokio::test]
async fn without_an_expiry_the_cookie_lasts_as_long_as_the_browser() {
    for sessions in both().await {
        let answer = Browser::new(app(&sessions, None, None))
            .get("/insert")
            .await;
        assert_eq!(answer.max_age(), None);
    }
}

#[tokio::test]
async fn an_inserted_value_is_read_by_the_next_request() {
    for sessions in both().await {
        let mut browser = Browser::new(app(&sessions, AN_HOUR, None));
        assert_eq!(browser.get("/get").await.body, "nothing");
        browser.get("/insert").await;
        assert_eq!(browser.get("/get").await.body, "42");
    }
}

#[tokio::test]
async fn the_last_value_can_be_removed() {
    for sessions in both().await {
        let mut browser = Browser::new(app(&sessions, AN_HOUR, None));
        browser.get("/insert").await;
        browser.get("/remove").await;
        assert_eq!(browser.get("/get").await.body, "nothing");
    }
}

#[tokio::test]
async fn another_id_keeps_what_is_in_the_session() {
    for sessions in both().await {
        let mut browser = Browser::new(app(&sessions, AN_HOUR, None));
        browser.get("/insert").await;
        let first = browser.id.clone().expect("a session");
        browser.get("/cycle").await;
        assert_ne!(browser.id.as_ref(), Some(&first));
        assert_eq!(browser.get("/get").await.body, "42");

        let mut old = Browser::with_id(app(&sessions, AN_HOUR, None), &first);
        assert_eq!(old.get("/get").await.body, "nothing");
    }
}

#[tokio::test]
async fn a_session_that_is_flushed_takes_its_cookie_along() {
    for sessions in both().await {
        for domain in [None, Some("localhost")] {
            let mut browser = Browser::new(app(&sessions, AN_HOUR, domain));
            browser.get("/insert").await;
            let answer = browser.get("/flush").await;
            assert_eq!((browser.id, answer.max_age()), (None, Some(0)));
            assert_eq!(
                (answer.says("Domain"), answer.says("Path")),
                (domain, Some("/"))
            );
        }
    }
}

#[tokio::test]
async fn a_session_is_gone_after_its_time() {
    for sessions in both().await {
        let life = Some(Duration::milliseconds(150));
        let mut browser = Browser::new(app(&sessions, life, None));
        browser.get("/insert").await;
        // Each request reads it, and none makes it live for longer.
        let began = OffsetDateTime::now_utc();
        while browser.get("/get").await.body != "nothing" {
            assert!(OffsetDateTime::now_utc() - began < Duration::seconds(30));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_request_can_give_its_session_another_expiry() {
    // The clock goes on meanwhile, on a busy machine by some seconds.
    let about = |age: Option<i64>, seconds: i64| age.is_some_and(|age| age.abs_diff(seconds) <= 30);
    for sessions in both().await {
        for life in [AN_HOUR, None] {
            let mut browser = Browser::new(app(&sessions, life, Some("localhost")));
            let answer = browser.get("/insert").await;
            assert_eq!(answer.max_age(), life.map(Duration::whole_seconds));
            let answer = browser.get("/for-a-day").await;
            assert!(about(answer.max_age(), 86_400), "{:?}", answer.max_age());
            let answer = browser.get("/until-the-end").await;
            assert_eq!(answer.max_age(), None);
        }
    }
}
