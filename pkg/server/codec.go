package server

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one is made of
	"google.golang.org/grpc/mem"
)

// encodedMessage is a message that has been encoded already, for many streams at once.
// Nothing changes the bytes: not this server, and not gRPC, which only reads what is sent.
type encodedMessage []byte

// sharingCodec is gRPC's own codec for protobuf, which also sends encodedMessages.
type sharingCodec struct{ encoding.CodecV2 }

func newSharingCodec() sharingCodec { return sharingCodec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c sharingCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(encodedMessage); ok {
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	}
	return c.CodecV2.Marshal(v)
}
