//! What every service is made of, and nothing of any domain
