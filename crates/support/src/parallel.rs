//! The same work on many items, on all processors: with results in the order of the items, or with more to do found on the way.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};
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

/// Applies `work` to the items of `first` and to those that `found` names on the way, the greatest of those that wait at a
/// time. `found` gets every result, on this thread, in any order.
///
/// # Errors
/// Fails with the error of the greatest item that `work` fails on, after all others were worked on.
pub fn explore<T: Ord + Send, R: Send>(
    first: Vec<T>,
    work: impl Fn(&T) -> Result<R> + Sync,
    mut found: impl FnMut(R) -> Vec<T>,
) -> Result<()> {
    let queue = Queue::default();
    let (sender, receiver) = channel();
    let mut open = queue.add(first);
    let mut failed: Option<(T, anyhow::Error)> = None;
    thread::scope(|scope| {
        let end = EndOnDrop(&queue);
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (sender, queue, work) = (sender.clone(), &queue, &work);
            scope.spawn(move || {
                // Should `work` panic, the others must not wait for more to do.
                let _end = EndOnDrop(queue);
                while let Some(item) = queue.take() {
                    let result = work(&item);
                    if sender.send((item, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        while open > 0 {
            let Ok((item, result)) = receiver.recv() else { break };
            open -= 1;
            match result {
                Ok(result) => open += queue.add(found(result)),
                Err(error) if failed.as_ref().is_none_or(|(other, _)| item > *other) => failed = Some((item, error)),
                Err(_) => {}
            }
        }
        drop(end);
    });
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// What waits to be worked on.
struct Queue<T> {
    state: Mutex<(BinaryHeap<T>, bool)>,
    changed: Condvar,
}

impl<T: Ord> Default for Queue<T> {
    fn default() -> Self {
        Queue { state: Mutex::new((BinaryHeap::new(), false)), changed: Condvar::new() }
    }
}

impl<T: Ord> Queue<T> {
    /// Adds items. Returns their number.
    fn add(&self, items: Vec<T>) -> usize {
        let count = items.len();
        self.state.lock().expect("no thread panics while it holds the lock").0.extend(items);
        self.changed.notify_all();
        count
    }

    /// The greatest item, once there is one; nothing at the end.
    fn take(&self) -> Option<T> {
        let state = self.state.lock().expect("no thread panics while it holds the lock");
        let waiting = self.changed.wait_while(state, |(items, ended)| items.is_empty() && !*ended);
        let (items, ended) = &mut *waiting.expect("no thread panics while it holds the lock");
        if *ended { None } else { items.pop() }
    }
}

/// Ends a queue for all who wait for its items.
struct EndOnDrop<'a, T: Ord>(&'a Queue<T>);

impl<T: Ord> Drop for EndOnDrop<'_, T> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.1 = true;
        }
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_found_on_the_way_is_worked_on_too() {
        let mut seen = BTreeSet::from([1]);
        explore(
            vec![1_u32],
            |item| Ok(*item),
            |item| {
                let more = [item * 2, item * 3].into_iter().filter(|next| *next < 1000 && seen.insert(*next));
                more.collect()
            },
        )
        .unwrap();
        assert_eq!(seen.len(), 40, "the products of 2 and 3 below 1000");
        explore(Vec::new(), |item: &u32| Ok(*item), |_| panic!("nothing to do")).unwrap();
    }

    #[test]
    fn of_several_failures_the_greatest_is_reported_and_the_rest_is_done() {
        let mut done = Vec::new();
        let work = |item: &u32| if item % 2 == 1 { anyhow::bail!("item {item}") } else { Ok(*item) };
        let error = explore((0..10).collect(), work, |item| {
            done.push(item);
            Vec::new()
        });
        assert_eq!((error.unwrap_err().to_string(), done.len()), ("item 9".to_owned(), 5));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_passed_on() {
        let _ = explore((0..10).collect(), |item| if *item == 5 { panic!() } else { Ok(*item) }, |_: u32| Vec::new());
    }

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
