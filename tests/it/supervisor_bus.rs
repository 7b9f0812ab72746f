//! The supervisor's bridge: workers in two languages, the router and a commander on a real RabbitMQ.
