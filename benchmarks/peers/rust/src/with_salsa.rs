//! The shapes with salsa: keys are input records, its only kind of key that needs no interning.
//!
//! Inputs have the lowest durability, which is the default: what verifying costs is to be seen.

use crate::Shapes;
use crate::measure::rounds;
use salsa::{Database, DatabaseImpl, Durability, Setter};
use std::hint::black_box;

#[salsa::input]
struct Item {
    #[returns(copy)]
    value: u64,
}

#[salsa::input]
struct List {
    #[returns(ref)]
    items: Vec<Item>,
}

#[salsa::interned]
struct Interned<'db> {
    #[returns(copy)]
    value: u64,
}

#[salsa::tracked(returns(copy))]
fn echo(_db: &dyn Database, _item: Item) -> u64 {
    1
}

#[salsa::tracked(returns(copy))]
fn value_of(db: &dyn Database, item: Item) -> u64 {
    item.value(db)
}

/// One of many readers of the same input.
#[salsa::tracked(returns(copy))]
fn reader(db: &dyn Database, item: Item, number: u64) -> u64 {
    item.value(db) + number
}

/// 1 more than the link before; the first reads the input.
#[salsa::tracked(returns(copy))]
fn link(db: &dyn Database, item: Item, number: u64) -> u64 {
    if number == 0 { item.value(db) } else { link(db, item, number - 1) + 1 }
}

/// The same above a query that comes to the same result whatever the input is.
#[salsa::tracked(returns(copy))]
fn steady_link(db: &dyn Database, item: Item, number: u64) -> u64 {
    if number == 0 { item.value(db).min(1) } else { steady_link(db, item, number - 1) + 1 }
}

/// The sum of `2^level` items from `place * 2^level` on.
#[salsa::tracked(returns(copy))]
fn sum(db: &dyn Database, list: List, level: u64, place: u64) -> u64 {
    if level == 1 {
        let items = list.items(db);
        let first = 2 * place as usize;
        items[first].value(db) + items[first + 1].value(db)
    } else {
        sum(db, list, level - 1, 2 * place) + sum(db, list, level - 1, 2 * place + 1)
    }
}

// 7 queries and 10 edges for each root, as in salsa's own benchmark of fetching queries.

#[salsa::tracked(returns(copy))]
fn root(db: &dyn Database, item: Item) -> u64 {
    branch_a(db, item) + branch_b(db, item)
}

#[salsa::tracked(returns(copy))]
fn branch_a(db: &dyn Database, item: Item) -> u64 {
    leaf_a1(db, item) + leaf_a2(db, item)
}

#[salsa::tracked(returns(copy))]
fn branch_b(db: &dyn Database, item: Item) -> u64 {
    leaf_b1(db, item) + leaf_b2(db, item)
}

#[salsa::tracked(returns(copy))]
fn leaf_a1(db: &dyn Database, item: Item) -> u64 {
    item.value(db) + 1
}

#[salsa::tracked(returns(copy))]
fn leaf_a2(db: &dyn Database, item: Item) -> u64 {
    item.value(db) + 2
}

#[salsa::tracked(returns(copy))]
fn leaf_b1(db: &dyn Database, item: Item) -> u64 {
    item.value(db) + 3
}

#[salsa::tracked(returns(copy))]
fn leaf_b2(db: &dyn Database, item: Item) -> u64 {
    item.value(db) + 4
}

type Filled = (DatabaseImpl, Vec<Item>);

/// A database with items of the values 0 to `n - 1`.
fn filled(n: u64) -> Filled {
    let db = DatabaseImpl::default();
    let items = (0..n).map(|value| Item::new(&db, value)).collect();
    (db, items)
}

fn ask(filled: &Filled, query: fn(&dyn Database, Item) -> u64) -> u64 {
    filled.1.iter().map(|item| query(&filled.0, black_box(*item))).sum()
}

fn set_all((db, items): &mut Filled, value: impl Fn(u64) -> u64) {
    for (place, item) in items.iter().enumerate() {
        item.set_value(db).to(value(place as u64));
    }
}

pub fn shapes(n: usize) -> Shapes {
    let mut shapes: Shapes = Vec::new();
    let mut add = |name, times| shapes.push((name, times));

    let one = filled(1);
    ask(&one, echo);
    add(
        "hit",
        rounds(
            n,
            1_000,
            one,
            |_, _| (),
            |(db, items), ()| (0..1_000).map(|_| echo(db, black_box(items[0]))).sum::<u64>(),
        ),
    );
    add("miss", rounds(n, 500, (), |(), _| filled(500), |(), each| ask(each, echo)));
    let many = filled(500);
    ask(&many, value_of);
    add(
        "recompute",
        rounds(
            n,
            500,
            many,
            |each, round| set_all(each, |place| place + round + 1),
            |each, ()| ask(each, value_of),
        ),
    );
    add(
        "input_get",
        rounds(
            n,
            1_000,
            filled(1),
            |_, _| (),
            |(db, items), ()| (0..1_000).map(|_| black_box(items[0]).value(db)).sum::<u64>(),
        ),
    );
    add(
        "set_0",
        rounds(
            n,
            1_000,
            filled(50),
            |_, round| 20 * round,
            |each, first| {
                for pass in 0..20 {
                    set_all(each, |_| *first + pass + 1_000);
                }
            },
        ),
    );
    add(
        "set_1000",
        rounds(
            n,
            1,
            filled(1),
            |(db, items), round| {
                black_box((0..1_000).map(|number| reader(db, items[0], number)).sum::<u64>());
                round + 1
            },
            |(db, items), value| {
                items[0].set_value(db).to(*value);
            },
        ),
    );
    trees(n, &mut add);
    chains(n, &mut add);
    add(
        "create_inputs",
        rounds(
            n,
            1_000,
            (),
            |(), _| DatabaseImpl::default(),
            |(), db| {
                for value in 0..1_000 {
                    black_box(Item::new(db, black_box(value)));
                }
            },
        ),
    );
    add(
        "intern",
        rounds(
            n,
            256,
            (),
            |(), _| DatabaseImpl::default(),
            |(), db| {
                for value in 0..256 {
                    black_box(Interned::new(db, black_box(value)));
                }
            },
        ),
    );
    add("field_access", rounds(n, 256, (), |(), _| filled(256), |(), each| ask(each, value_of)));
    shapes
}

fn trees(n: usize, add: &mut impl FnMut(&'static str, crate::Times)) {
    let warm = filled(256);
    assert_eq!(ask(&warm, root), (0..256).map(|value| 4 * value + 10).sum());
    add("trees_hot", rounds(n, 256, warm, |_, _| (), |each, ()| ask(each, root)));
    add("trees_cold", rounds(n, 256, (), |(), _| filled(256), |(), each| ask(each, root)));
    let warm = filled(256);
    ask(&warm, root);
    add(
        "trees_deep_verify",
        rounds(
            n,
            256,
            warm,
            |(db, _), _| db.synthetic_write(Durability::LOW),
            |each, ()| ask(each, root),
        ),
    );
    let fresh = |(): &mut (), _| {
        let mut each = filled(256);
        ask(&each, root);
        set_all(&mut each, |place| 2 * place);
        each
    };
    add("trees_verify_then_execute", rounds(n, 256, (), fresh, |(), each| ask(each, root)));
}

fn chains(n: usize, add: &mut impl FnMut(&'static str, crate::Times)) {
    let change = |(db, items): &mut Filled, round: u64| {
        items[0].set_value(db).to(round + 1);
    };
    let each = filled(1);
    link(&each.0, each.1[0], 499);
    add(
        "chain_500",
        rounds(n, 500, each, change, |(db, items), ()| link(db, black_box(items[0]), 499)),
    );
    let mut each = filled(1);
    change(&mut each, 0);
    steady_link(&each.0, each.1[0], 499);
    add(
        "chain_500_cutoff",
        rounds(n, 500, each, change, |(db, items), ()| steady_link(db, black_box(items[0]), 499)),
    );

    let (db, items) = filled(1_024);
    let list = List::new(&db, items.clone());
    assert_eq!(sum(&db, list, 10, 0), 1_023 * 512);
    add(
        "list_sum",
        rounds(
            n,
            1,
            (db, items),
            |_, round| round,
            |(db, items), round| {
                let place = (*round * 37 % 1_024) as usize;
                items[place].set_value(db).to(*round + 2_000);
                sum(db, list, 10, 0)
            },
        ),
    );
}
