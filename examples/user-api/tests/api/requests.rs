//! The answers of the service. Reads go to one instance and writes to the other, so a read sees
//! what the other one wrote.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::stores::{Service, with_each_cache};

with_each_cache! {
    a_user_is_found_by_id_and_by_email
    a_replaced_user_is_read_as_written
    an_email_leads_to_who_has_it_now
    a_refused_update_changes_nothing
    a_row_that_breaks_a_rule_is_shown_and_not_stored
    a_removed_user_is_gone_from_everywhere
    a_new_user_is_on_the_last_page
    a_transfer_changes_both_organisations
    a_transfer_that_is_refused_changes_nothing
    no_reader_sees_or_keeps_who_was_transferred
    a_new_name_of_an_organisation_shows_on_its_users
    logins_are_limited_by_email
}

const ATLANTA: &str = "William B Hartsfield-Atlanta Intl";

fn ada() -> Value {
    user(42, 2, ATLANTA, "Ada Perlman", "ada.perlman@atl.example")
}

fn user(id: i64, org_id: i64, org: &str, name: &str, email: &str) -> Value {
    json!({ "id": id, "org_id": org_id, "org": org, "name": name, "email": email })
}

fn ids(page: &Value) -> Vec<i64> {
    let users = page.as_array().expect("a list");
    users
        .iter()
        .filter_map(|user| user["id"].as_i64())
        .collect()
}

async fn a_user_is_found_by_id_and_by_email(service: &Service) {
    for _ in 0..2 {
        assert_eq!(service.get("/users/42").await, (200, ada()));
        let by_email = service.get("/users?email=Ada.Perlman@ATL.example").await;
        assert_eq!(by_email, (200, ada()));
    }
    assert_eq!(service.get("/users/100000").await.0, 404);
    assert_eq!(service.get("/users?email=nobody@atl.example").await.0, 404);
    assert_eq!(service.get("/users/ada").await.0, 400);
}

async fn a_replaced_user_is_read_as_written(service: &Service) {
    assert_eq!(service.get("/users/42").await, (200, ada()));
    let written = user(42, 2, ATLANTA, "Ada P.", "ada.p@atl.example");
    let body = json!({ "name": "Ada P.", "email": "ada.p@atl.example" });
    let put = service.send(Method::PUT, "/users/42", body).await;
    assert_eq!(put, (200, written.clone()));
    assert_eq!(service.get("/users/42").await, (200, written));
}

async fn an_email_leads_to_who_has_it_now(service: &Service) {
    let (of_ada, of_42) = (
        "/users?email=ada@atl.example",
        "/users?email=ada.perlman@atl.example",
    );
    assert_eq!(service.get(of_42).await, (200, ada()));
    let body = json!({ "name": "Ada Perlman", "email": "ada@atl.example" });
    assert_eq!(service.send(Method::PUT, "/users/42", body).await.0, 200);
    assert_eq!(service.get(of_42).await.0, 404);
    assert_eq!(service.get(of_ada).await.1["id"], 42);

    // Another user takes it over.
    let body = json!({ "name": "Ada Allen", "email": "ada.perlman@atl.example" });
    assert_eq!(service.send(Method::PUT, "/users/2", body).await.0, 200);
    assert_eq!(service.get(of_42).await.1["id"], 2);
}

async fn a_refused_update_changes_nothing(service: &Service) {
    assert_eq!(service.get("/users/42").await, (200, ada()));
    let put = async |path, name, email| {
        let body = json!({ "name": name, "email": email });
        service.send(Method::PUT, path, body).await
    };
    let (status, said) = put("/users/42", "", "ada").await;
    let said = said["error"].as_str().expect("what is wrong").to_owned();
    assert_eq!(status, 422);
    assert!(
        said.contains("name: ") && said.contains("email: "),
        "{said}"
    );
    // It says which field, and not what was in it.
    assert!(!said.contains("ada"), "{said}");
    assert_eq!(
        put("/users/42", "Ada", "ada.allen@atl.example").await.0,
        409
    );
    assert_eq!(put("/users/100000", "Ada", "ada@atl.example").await.0, 404);
    assert_eq!(service.get("/users/42").await, (200, ada()));
    no_guard_stayed(service).await;
}

async fn a_row_that_breaks_a_rule_is_shown_and_not_stored(service: &Service) {
    let empty = sqlx::query("UPDATE users SET name = '' WHERE id = 42");
    empty
        .execute(&service.db)
        .await
        .expect("the table has no rule");
    let written = user(42, 2, ATLANTA, "", "ada.perlman@atl.example");
    for _ in 0..2 {
        assert_eq!(service.get("/users/42").await, (200, written.clone()));
    }
    let stats = service.stores[0].stats();
    assert_eq!((stats.hits(), stats.loads()), (0, 2));
}

async fn a_removed_user_is_gone_from_everywhere(service: &Service) {
    assert_eq!(service.get("/users/42").await, (200, ada()));
    let (_, page) = service.get("/orgs/2/users").await;
    assert_eq!(ids(&page)[..3], [2, 22, 42]);
    assert_eq!(ids(&page).len(), 20);

    let removed = service.send(Method::DELETE, "/users/42", Value::Null).await;
    assert_eq!(removed, (204, Value::Null));
    assert_eq!(service.get("/users/42").await.0, 404);
    assert_eq!(
        service.get("/users?email=ada.perlman@atl.example").await.0,
        404
    );
    let (_, page) = service.get("/orgs/2/users").await;
    assert_eq!(ids(&page)[..3], [2, 22, 62]);
    assert_eq!(ids(&page).len(), 20);
    let again = service.send(Method::DELETE, "/users/42", Value::Null).await;
    assert_eq!(again.0, 404);
}

async fn a_new_user_is_on_the_last_page(service: &Service) {
    assert_eq!(service.get("/orgs/2/users?page=3").await, (200, json!([])));
    let body = json!({ "org_id": 2, "name": "Mary Shaw", "email": "mary.shaw@atl.example" });
    let written = user(1201, 2, ATLANTA, "Mary Shaw", "mary.shaw@atl.example");
    let created = service.send(Method::POST, "/users", body.clone()).await;
    assert_eq!(created, (201, written.clone()));
    let page = service.get("/orgs/2/users?page=3").await;
    assert_eq!(page, (200, json!([written])));
    assert_eq!(service.send(Method::POST, "/users", body).await.0, 409);
    let nowhere = json!({ "org_id": 21, "name": "Mary Shaw", "email": "mary@example.org" });
    assert_eq!(service.send(Method::POST, "/users", nowhere).await.0, 422);
    assert_eq!(service.get("/orgs/21/users").await.0, 404);
}

async fn a_transfer_changes_both_organisations(service: &Service) {
    assert_eq!(service.get("/users/42").await, (200, ada()));
    for org in [2, 3] {
        let (status, page) = service.get(&format!("/orgs/{org}/users")).await;
        assert_eq!((status, ids(&page).contains(&42)), (200, org == 2));
    }
    let body = json!({ "from": 2, "to": 3 });
    let moved = service.send(Method::POST, "/users/42/transfer", body).await;
    let nashville = "Nashville International";
    let written = user(42, 3, nashville, "Ada Perlman", "ada.perlman@atl.example");
    assert_eq!(moved, (200, written.clone()));
    assert_eq!(service.get("/users/42").await, (200, written));
    for org in [2, 3] {
        let (status, page) = service.get(&format!("/orgs/{org}/users")).await;
        assert_eq!((status, ids(&page).contains(&42)), (200, org == 3));
    }
    assert_eq!(transfers(service).await, [(42, 2, 3)]);
}

async fn a_transfer_that_is_refused_changes_nothing(service: &Service) {
    let send = async |path, from, to| {
        let body = json!({ "from": from, "to": to });
        service.send(Method::POST, path, body).await.0
    };
    // Not there any more, nowhere to go, nobody to go.
    assert_eq!(send("/users/42/transfer", 3, 4).await, 404);
    assert_eq!(send("/users/42/transfer", 2, 21).await, 422);
    assert_eq!(send("/users/100000/transfer", 2, 3).await, 404);
    assert_eq!(service.get("/users/42").await, (200, ada()));
    assert_eq!(transfers(service).await, []);
    no_guard_stayed(service).await;
}

/// Ada is cached again. On a busy machine the lease of a load may run out, which is then not
/// stored; but not of three in a row. A guard would stay for longer than they take.
async fn no_guard_stayed(service: &Service) {
    if service.stores[0].is_enabled() {
        let hits = service.stores[0].stats().hits();
        for _ in 0..3 {
            assert_eq!(service.get("/users/42").await, (200, ada()));
        }
        assert!(service.stores[0].stats().hits() > hits);
    }
}

async fn no_reader_sees_or_keeps_who_was_transferred(service: &Service) {
    let done = AtomicBool::new(false);
    let read = async || {
        while !done.load(Ordering::Relaxed) {
            service.get("/users/42").await;
            for org in [2, 3] {
                let (_, page) = service.get(&format!("/orgs/{org}/users")).await;
                let users = page.as_array().expect("users");
                assert!(users.iter().all(|user| user["org_id"] == org), "{page}");
            }
        }
    };
    let write = async {
        for (from, to) in [(2, 3), (3, 2)].repeat(15) {
            let body = json!({ "from": from, "to": to });
            let moved = service.send(Method::POST, "/users/42/transfer", body).await;
            assert_eq!((moved.0, &moved.1["org_id"]), (200, &json!(to)));
            assert_eq!(service.get("/users/42").await, moved);
            for org in [from, to] {
                let (_, page) = service.get(&format!("/orgs/{org}/users")).await;
                assert_eq!(ids(&page).contains(&42), org == to);
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(write, read(), read(), read());
}

async fn transfers(service: &Service) -> Vec<(i64, i64, i64)> {
    let rows = sqlx::query_as("SELECT user_id, from_org, to_org FROM transfers ORDER BY id");
    rows.fetch_all(&service.db).await.expect("rows")
}

async fn a_new_name_of_an_organisation_shows_on_its_users(service: &Service) {
    assert_eq!(service.get("/orgs/2").await.1["name"], ATLANTA);
    let (_, page) = service.get("/orgs/2/users").await;
    assert!(
        page.as_array()
            .expect("users")
            .iter()
            .all(|user| user["org"] == ATLANTA)
    );
    let body = json!({ "name": "Atlanta" });
    let put = service.send(Method::PUT, "/orgs/2", body.clone()).await;
    assert_eq!(
        put,
        (200, json!({ "id": 2, "code": "ATL", "name": "Atlanta" }))
    );
    assert_eq!(service.get("/orgs/2").await.1["name"], "Atlanta");
    assert_eq!(service.get("/users/42").await.1["org"], "Atlanta");
    let (_, page) = service.get("/orgs/2/users").await;
    assert!(
        page.as_array()
            .expect("users")
            .iter()
            .all(|user| user["org"] == "Atlanta")
    );
    assert_eq!(service.send(Method::PUT, "/orgs/21", body).await.0, 404);
}

async fn logins_are_limited_by_email(service: &Service) {
    let login = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        service.send(Method::POST, "/login", body).await
    };
    let (email, password) = ("ada.perlman@atl.example", "correct horse battery staple");
    assert_eq!(login(email, "wrong").await.0, 401);
    // A login with the right password resets the limit.
    assert_eq!(login(email, password).await, (200, ada()));
    for _ in 0..2 {
        assert_eq!(login("ADA.perlman@atl.example", "wrong").await.0, 401);
    }
    let body = json!({ "email": email, "password": password });
    let refused = service
        .response_at(1, Method::POST, "/login", Some(body))
        .await;
    assert_eq!(refused.status(), 429);
    let field = |name: &str| refused.headers()[name].to_str().expect("text");
    assert_eq!(field("ratelimit-policy"), "\"login\";q=2;w=3600");
    let retry: u64 = field("retry-after").parse().expect("seconds");
    assert_eq!(field("ratelimit"), format!("\"login\";r=0;t={retry}"));
    assert!((1..=1800).contains(&retry), "{retry}");
    // Others are not kept out by that; nor is it told whether they exist.
    assert_eq!(login("nobody@atl.example", "wrong").await.0, 401);
}
