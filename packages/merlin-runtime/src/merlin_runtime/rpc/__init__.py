"""gRPC: the Open Inference Protocol, Merlin's UPI, health and reflection.

grpcio and protobuf are the model's environment's to bring (``merlin-runtime[grpc]``), and nothing
outside this package imports them. No generated code is shipped: generated code refuses versions of
protobuf older than its generator, and the model's pins come first.
"""
