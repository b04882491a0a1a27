#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tls::testing::Files;

/// Keeps its things in the folder of these files.
fn automatic(files: &Files) -> Automatic {
    Automatic {
        domains: vec!["localhost".into()],
        contact: None,
        directory: "https://ca.example.org:14000/dir".into(),
        directory_ca: None,
        folder: files.0.join("acme"),
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_kept_nobody_else_can_read() {
    let files = Files::new("modes");
    let automatic = automatic(&files);
    automatic.load().unwrap();
    let path = automatic.path("account.json");
    assert_eq!(
        path,
        files.0.join("acme/ca.example.org-14000-dir/account.json")
    );
    write(&path, b"first, and long").unwrap();
    write(&path, b"second").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    assert_eq!(mode(&path), 0o600);
    for folder in [&automatic.folder, path.parent().unwrap()] {
        assert_eq!(mode(folder), 0o700);
    }
    assert_eq!(
        path.parent().unwrap().read_dir().unwrap().count(),
        1,
        "no rest"
    );
}

#[test]
fn a_kept_certificate_is_served_again_if_it_is_for_the_names() {
    let files = Files::new("kept");
    let mut automatic = automatic(&files);
    assert!(automatic.load().unwrap().is_provisional, "there is none");
    let kept = [files.key(), files.certificate()].map(|path| std::fs::read(path).unwrap());
    let path = automatic.path("certificate.pem");
    write(&path, &kept.concat()).unwrap();
    assert!(!automatic.load().unwrap().is_provisional);
    automatic.domains.push("other.example.org".into());
    assert!(
        automatic.load().unwrap().is_provisional,
        "it is for one name of two"
    );
    automatic.domains.pop();
    write(&path, &kept[0]).unwrap();
    assert!(
        automatic.load().unwrap().is_provisional,
        "half of it is gone"
    );
    automatic.directory = "https://staging.example.org/dir".into();
    write(&path, &kept.concat()).unwrap();
    assert!(
        automatic.load().unwrap().is_provisional,
        "another authority's is none"
    );
}

#[test]
fn a_folder_that_cannot_be_made_and_an_authority_nobody_knows_are_told_in_a_sentence() {
    let files = Files::new("refused");
    let mut automatic = automatic(&files);
    automatic.folder = files.certificate();
    let error = automatic.load().unwrap_err().to_string();
    assert!(
        error.contains("choose another folder with http.acme_folder"),
        "{error}"
    );
    automatic.directory_ca = Some("/nowhere/ca.pem".into());
    let error = automatic.load().unwrap_err().to_string();
    assert!(error.contains("cannot use /nowhere/ca.pem"), "{error}");
}

#[test]
fn it_is_tried_again_ever_less_often_and_more_patiently_after_a_refusal() {
    let seconds = |failures, is_refusal| pause(failures, is_refusal).as_secs();
    assert_eq!(
        [0, 1, 2, 9, 40].map(|n| seconds(n, false)),
        [10, 20, 40, 3600, 3600]
    );
    assert_eq!(
        [0, 1, 2, 9, 40].map(|n| seconds(n, true)),
        [600, 1200, 2400, 21_600, 21_600]
    );
}

#[test]
fn a_clock_that_is_wrong_does_not_make_it_ask_again_and_again() {
    let day = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400) * n;
    assert_eq!(
        earliest_again(day(10), day(100)),
        day(55),
        "long before it is due"
    );
    assert_eq!(
        earliest_again(day(80), day(100)),
        day(90),
        "it is due already"
    );
}
