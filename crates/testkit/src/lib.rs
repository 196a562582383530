//! Private servers, a fault-injecting proxy and the suite macro for redkit's own tests.
