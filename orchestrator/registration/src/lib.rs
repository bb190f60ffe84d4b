//! The one saga: its steps, side by side with what undoes them
