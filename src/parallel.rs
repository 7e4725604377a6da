//! The same work on many items, on all processors, with results in the order of the items.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

/// Applies `work` to every item. The results, and the error reported if several items fail, are the same for any number
/// of processors.
///
/// # Errors
/// Fails with the error of the first item that `work` fails on.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, item)) = take(items, &next) {
                    let result = work(item);
                    done.lock().expect("no thread panics while it holds the lock").push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics while it holds the lock");
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    items.get(number).map(|item| (number, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(map(&items, |item| Ok(item * 2)).unwrap()[999], 1998);
        assert!(map(&[] as &[usize], |item| Ok(*item)).unwrap().is_empty());
    }

    #[test]
    fn first_failing_item_is_the_one_reported() {
        let items: Vec<usize> = (0..100).collect();
        let error = map(&items, |item| if *item > 40 { anyhow::bail!("item {item}") } else { Ok(()) }).unwrap_err();
        assert_eq!(error.to_string(), "item 41");
    }
}
