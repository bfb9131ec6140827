//! Carts. Only the store has them, so they must not be lost.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Result, Store};

/// Pieces of a product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The product's id.
    pub product: u32,
    /// How many of it.
    pub pieces: u32,
}

/// The cart of the first release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy)]
pub struct CartV1 {
    /// Whose cart it is.
    #[cached(key)]
    pub customer: u64,
    /// The products in it.
    pub lines: Vec<Line>,
}

/// The cart of the second one: a field has another name, and one is new. Without the `version` the
/// carts of the first release would be errors, and a new `version` without `migrate_from` does not
/// compile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy, version = 2, migrate_from = CartV1)]
pub struct Cart {
    /// Whose cart it is.
    #[cached(key)]
    pub customer: u64,
    /// The products in it: `lines` before.
    pub items: Vec<Line>,
    /// New in this release.
    pub coupon: Option<String>,
}

impl From<CartV1> for Cart {
    fn from(CartV1 { customer, lines }: CartV1) -> Self {
        Self {
            customer,
            items: lines,
            coupon: None,
        }
    }
}

/// Puts pieces of a product into a cart. However many requests do so at once, none is lost.
pub async fn add(store: &Store, customer: u64, product: u32, pieces: u32) -> Result<Cart> {
    let cart = Cart::modify(store, customer, |cart: Option<Cart>| {
        let mut cart = cart.unwrap_or_else(|| Cart {
            customer,
            items: Vec::new(),
            coupon: None,
        });
        match cart.items.iter_mut().find(|line| line.product == product) {
            Some(line) => line.pieces += pieces,
            None => cart.items.push(Line { product, pieces }),
        }
        cart
    });
    Ok(cart.await?)
}

/// Takes a product out of a cart. A cart without any is deleted.
pub async fn remove(store: &Store, customer: u64, product: u32) -> Result<Option<Cart>> {
    let cart = Cart::modify(store, customer, |cart: Option<Cart>| {
        let mut cart = cart?;
        cart.items.retain(|line| line.product != product);
        (!cart.items.is_empty()).then_some(cart)
    });
    Ok(cart.await?)
}
