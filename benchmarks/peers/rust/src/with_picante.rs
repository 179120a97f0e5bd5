//! The shapes with the Rust crate picante: ingredients in a database made by hand, as in its own benchmarks.
//! Snapshots are made by its macros, which is the only way that its documentation shows.

use crate::Shapes;
use crate::measure::rounds;
use facet::Facet;
use picante::{
    DerivedIngredient, DynIngredient, HasRuntime, IngredientLookup, IngredientRegistry,
    InputIngredient, InternedIngredient, PicanteResult, QueryKindId, Runtime,
};
use std::hint::black_box;
use std::sync::Arc;

type Input<K> = Arc<InputIngredient<K, u64>>;
type Query<K> = Arc<DerivedIngredient<Db, K, u64>>;
type Future<'db> =
    std::pin::Pin<Box<dyn std::future::Future<Output = PicanteResult<u64>> + Send + 'db>>;

struct Db {
    runtime: Runtime,
    ingredients: IngredientRegistry<Db>,
    value: Input<u64>,
    named: Query<String>,
    echo: Query<u64>,
    value_of: Query<u64>,
    reader: Query<u64>,
    link: Query<u64>,
    steady_link: Query<u64>,
    sum: Query<(u64, u64)>,
    root: Query<u64>,
    branch_a: Query<u64>,
    branch_b: Query<u64>,
    leaf_a1: Query<u64>,
    leaf_a2: Query<u64>,
    leaf_b1: Query<u64>,
    leaf_b2: Query<u64>,
}

impl HasRuntime for Db {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl IngredientLookup for Db {
    fn ingredient(&self, kind: QueryKindId) -> Option<&dyn DynIngredient<Self>> {
        self.ingredients.ingredient(kind)
    }
}

/// Makes queries, and gives them to the registry.
struct Maker {
    ingredients: IngredientRegistry<Db>,
    kinds: u32,
}

impl Maker {
    fn query<K>(
        &mut self,
        name: &'static str,
        compute: impl for<'db> Fn(&'db Db, K) -> Future<'db> + Send + Sync + 'static,
    ) -> Query<K>
    where
        K: Clone + Facet<'static> + Send + Sync + 'static,
    {
        self.kinds += 1;
        let query = Arc::new(DerivedIngredient::new(QueryKindId(self.kinds), name, compute));
        self.ingredients.register(query.clone());
        query
    }
}

fn read(db: &Db, key: u64) -> PicanteResult<u64> {
    Ok(db.value.get(db, &key)?.unwrap_or_default())
}

impl Db {
    fn new() -> Self {
        let mut make = Maker { ingredients: IngredientRegistry::new(), kinds: 1 };
        let value: Input<u64> = Arc::new(InputIngredient::new(QueryKindId(1), "value"));
        make.ingredients.register(value.clone());
        let named = make.query("named", |_, _: String| Box::pin(async { Ok(1) }));
        let echo = make.query("echo", |_, key| Box::pin(async move { Ok(key) }));
        let value_of = make.query("value_of", |db, key| Box::pin(async move { read(db, key) }));
        let reader =
            make.query("reader", |db, key| Box::pin(async move { Ok(read(db, 0)? + key) }));
        let link = make.query("link", |db, key: u64| {
            Box::pin(async move {
                if key == 0 { read(db, 0) } else { Ok(db.link.get(db, key - 1).await? + 1) }
            })
        });
        let steady_link = make.query("steady_link", |db, key: u64| {
            Box::pin(async move {
                if key == 0 {
                    Ok(read(db, 0)?.min(1))
                } else {
                    Ok(db.steady_link.get(db, key - 1).await? + 1)
                }
            })
        });
        let sum = make.query("sum", |db, (level, place): (u64, u64)| {
            Box::pin(async move {
                if level == 1 {
                    Ok(read(db, 2 * place)? + read(db, 2 * place + 1)?)
                } else {
                    let left = db.sum.get(db, (level - 1, 2 * place)).await?;
                    Ok(left + db.sum.get(db, (level - 1, 2 * place + 1)).await?)
                }
            })
        });
        let root = make.query("root", |db, key| {
            Box::pin(async move {
                Ok(db.branch_a.get(db, key).await? + db.branch_b.get(db, key).await?)
            })
        });
        let branch_a = make.query("branch_a", |db, key| {
            Box::pin(
                async move { Ok(db.leaf_a1.get(db, key).await? + db.leaf_a2.get(db, key).await?) },
            )
        });
        let branch_b = make.query("branch_b", |db, key| {
            Box::pin(
                async move { Ok(db.leaf_b1.get(db, key).await? + db.leaf_b2.get(db, key).await?) },
            )
        });
        let leaf_a1 =
            make.query("leaf_a1", |db, key| Box::pin(async move { Ok(read(db, key)? + 1) }));
        let leaf_a2 =
            make.query("leaf_a2", |db, key| Box::pin(async move { Ok(read(db, key)? + 2) }));
        let leaf_b1 =
            make.query("leaf_b1", |db, key| Box::pin(async move { Ok(read(db, key)? + 3) }));
        let leaf_b2 =
            make.query("leaf_b2", |db, key| Box::pin(async move { Ok(read(db, key)? + 4) }));
        let runtime = Runtime::new();
        let ingredients = make.ingredients;
        Db {
            runtime,
            ingredients,
            value,
            named,
            echo,
            value_of,
            reader,
            link,
            steady_link,
            sum,
            root,
            branch_a,
            branch_b,
            leaf_a1,
            leaf_a2,
            leaf_b1,
            leaf_b2,
        }
    }

    /// With inputs of the values 0 to `n - 1`.
    fn filled(n: u64) -> Self {
        let db = Db::new();
        db.set_all(n, |place| place);
        db
    }

    fn set_all(&self, n: u64, value: impl Fn(u64) -> u64) {
        for place in 0..n {
            self.value.set(self, place, value(place));
        }
    }

    /// The sum of what `query` says to the keys 0 to `n - 1`.
    fn ask(&self, query: &Query<u64>, n: u64) -> u64 {
        on_loop(async {
            let mut sum = 0;
            for key in 0..n {
                sum += query.get(self, black_box(key)).await.expect("a value");
            }
            sum
        })
    }

    fn ask_one(&self, query: &Query<u64>, key: u64) -> u64 {
        on_loop(async { query.get(self, black_box(key)).await.expect("a value") })
    }
}

thread_local! {
    static LOOP: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a loop");
}

fn on_loop<T>(future: impl std::future::Future<Output = T>) -> T {
    LOOP.with(|each| each.block_on(future))
}

pub fn shapes(n: usize) -> Shapes {
    let mut shapes: Shapes = Vec::new();
    let mut add = |name, times| shapes.push((name, times));

    let hit = |db: &mut Db, (): &mut ()| {
        let key = String::from("src/module.py");
        on_loop(async {
            let mut sum = 0;
            for _ in 0..1_000 {
                sum += db.named.get(db, black_box(key.clone())).await.expect("a value");
            }
            sum
        })
    };
    add("hit", rounds(n, 1_000, Db::new(), |_, _| (), hit));
    add("miss", rounds(n, 500, (), |(), _| Db::new(), |(), db| db.ask(&db.echo, 500)));
    let db = Db::filled(500);
    db.ask(&db.value_of, 500);
    add(
        "recompute",
        rounds(
            n,
            500,
            db,
            |db, round| db.set_all(500, |place| place + round + 1),
            |db, ()| db.ask(&db.value_of, 500),
        ),
    );
    add(
        "input_get",
        rounds(
            n,
            1_000,
            Db::filled(1),
            |_, _| (),
            |db, ()| (0..1_000).map(|_| read(db, black_box(0)).expect("a value")).sum::<u64>(),
        ),
    );
    add(
        "set_0",
        rounds(
            n,
            1_000,
            Db::filled(50),
            |_, round| 20 * round,
            |db, first| {
                for pass in 0..20 {
                    db.set_all(50, |_| *first + pass + 1_000);
                }
            },
        ),
    );
    add(
        "set_1000",
        rounds(
            n,
            1,
            Db::filled(1),
            |db, round| {
                black_box(db.ask(&db.reader, 1_000));
                round + 1
            },
            |db, value| db.value.set(db, 0, *value),
        ),
    );
    trees(n, &mut add);
    chains(n, &mut add);
    add(
        "create_inputs",
        rounds(n, 1_000, (), |(), _| Db::new(), |(), db| db.set_all(1_000, |place| place)),
    );
    add(
        "intern",
        rounds(
            n,
            256,
            (),
            |(), _| InternedIngredient::<u64>::new(QueryKindId(1), "value"),
            |(), values| {
                for value in 0..256 {
                    black_box(values.intern(black_box(value)).expect("an id"));
                }
            },
        ),
    );
    add(
        "field_access",
        rounds(n, 256, (), |(), _| Db::filled(256), |(), db| db.ask(&db.value_of, 256)),
    );
    add("snapshot", snapshots(n));
    shapes
}

fn trees(n: usize, add: &mut impl FnMut(&'static str, crate::Times)) {
    let root = |db: &mut Db, (): &mut ()| db.ask(&db.root, 256);
    let warm = Db::filled(256);
    assert_eq!(warm.ask(&warm.root, 256), (0..256).map(|value| 4 * value + 10).sum());
    add("trees_hot", rounds(n, 256, warm, |_, _| (), root));
    add("trees_cold", rounds(n, 256, (), |(), _| Db::filled(256), |(), db| db.ask(&db.root, 256)));
    let warm = Db::filled(256);
    warm.ask(&warm.root, 256);
    let unrelated = |db: &mut Db, round: u64| {
        db.value.set(db, 1_000, round);
    };
    add("trees_deep_verify", rounds(n, 256, warm, unrelated, root));
    let fresh = |(): &mut (), _| {
        let db = Db::filled(256);
        db.ask(&db.root, 256);
        db.set_all(256, |place| 2 * place);
        db
    };
    add("trees_verify_then_execute", rounds(n, 256, (), fresh, |(), db| db.ask(&db.root, 256)));
}

fn chains(n: usize, add: &mut impl FnMut(&'static str, crate::Times)) {
    let change = |db: &mut Db, round: u64| {
        db.value.set(db, 0, round + 1);
    };
    let mut db = Db::filled(1);
    db.ask_one(&db.link, 499);
    add("chain_500", rounds(n, 500, db, change, |db, ()| db.ask_one(&db.link, 499)));
    db = Db::filled(1);
    change(&mut db, 0);
    db.ask_one(&db.steady_link, 499);
    add("chain_500_cutoff", rounds(n, 500, db, change, |db, ()| db.ask_one(&db.steady_link, 499)));

    let root =
        |db: &Db| on_loop(async { db.sum.get(db, black_box((10, 0))).await.expect("a value") });
    let db = Db::filled(1_024);
    assert_eq!(root(&db), 1_023 * 512);
    add(
        "list_sum",
        rounds(
            n,
            1,
            db,
            |_, round| round,
            |db, round| {
                db.value.set(db, *round * 37 % 1_024, *round + 2_000);
                root(db)
            },
        ),
    );
}

// -- by macros

#[picante::input]
pub struct Item {
    #[key]
    pub id: u64,
    pub value: u64,
}

#[picante::tracked]
pub async fn item_value<DB: DatabaseTrait>(db: &DB, item: Item) -> PicanteResult<u64> {
    item.value(db)
}

#[picante::db(inputs(Item), tracked(item_value))]
pub struct Database {}

fn snapshots(n: usize) -> crate::Times {
    let db = Database::new();
    on_loop(async {
        for id in 0..1_000 {
            let item = Item::new(&db, id, id).expect("an item");
            item_value(&db, item).await.expect("a value");
        }
    });
    rounds(
        n,
        1,
        db,
        |_, _| (),
        |db, ()| on_loop(async { drop(black_box(DatabaseSnapshot::from_database(&*db).await)) }),
    )
}
