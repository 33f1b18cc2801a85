"""
The queue over RabbitMQ: AMQP 0-9-1 through txamqp, made safe and quick here.
"""
