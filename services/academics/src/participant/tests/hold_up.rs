//! How long decisions wait for an import of 20,000 changed students. It is measured manually, because a machine that is
//! busy with something else would fail it:
//! `cargo xtask test -- -p matricula-academics --release hold_up -- --ignored --nocapture`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use matricula_grammar::Grade;

const STUDENTS: usize = 20_000;
/// Courses that a student has completed before the import, and those that it adds.
const COMPLETED: usize = 24;
const ADDED: usize = 5;

fn student(number: usize, completed: usize, name: &str) -> Profile {
    let grade: Grade = "B".parse().expect("a grade");
    let course = |course: usize| {
        let id = format!("6f1b2c3d-0000-4000-8000-c{:011}", (number * 7 + course) % 5_000);
        Completed { course: fixture::course_id(&id), grade, term: None }
    };
    let completed = (0..completed).map(course).collect();
    Profile { name: name.to_owned(), completed, ..profile(&format!("6f1b2c3d-0000-4000-8000-{number:012}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the machine"]
async fn decisions_wait_for_an_import() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let began = Instant::now();
        bed.import_students((0..STUDENTS).map(|number| student(number, COMPLETED, "Ada")).collect()).await;
        println!("{backend:?}: the first import took {:?}", began.elapsed());

        let over = Arc::new(AtomicBool::new(false));
        let waiting = tokio::spawn({
            let (writer, over) = (bed.writer.clone(), over.clone());
            async move {
                let mut longest = Duration::ZERO;
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = format!("6f1b2c3d-0000-4000-8000-{:012}", number * 17 % STUDENTS);
                    let action = Action::Reserve(change("MATH-1", ""));
                    let reserve = operation(&format!("r{number}"), RESERVE, Direction::Forward, &id, action);
                    let began = Instant::now();
                    let answer = writer.write(vec![reserve]).await.expect("the batch is committed").remove(0);
                    longest = longest.max(began.elapsed());
                    assert!(matches!(answer, Answer::Done(_) | Answer::Refused(_)), "{answer:?}");
                }
                longest
            }
        });
        let began = Instant::now();
        let changed = (0..STUDENTS).map(|number| {
            let holds = vec![Hold { source: Source::Bundle, ..hold("h1", "Library fine: pay at the desk.") }];
            Profile { holds, ..student(number, COMPLETED + ADDED, "Ada King") }
        });
        bed.import_students(changed.collect()).await;
        let took = began.elapsed();
        over.store(true, Ordering::SeqCst);
        let longest = waiting.await.expect("no panic");
        println!("{backend:?}: the second import took {took:?}, and the longest decision {longest:?}");
        let began = Instant::now();
        let mut content = bed.store.imported().await.expect("the database answers");
        content.all_students().await.expect("read");
        println!("{backend:?}: reading took {:?}", began.elapsed());
    }
}
