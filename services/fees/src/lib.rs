//! Fees: charges, voids and refunds
