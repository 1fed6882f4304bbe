package request

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxLine is the longest line: the kernel takes no more than 6 MiB of arguments and environment.
const maxLine = 16 << 20

// ErrTooLong says that a line is longer than any request can be.
var ErrTooLong = fmt.Errorf("the line is longer than %d bytes", maxLine)

// ReadLine reads a line with its end. It skips a line that is too long, and returns ErrTooLong for it. At the end of the input the error
// is io.EOF, also if the last line has no end, and may be both.
func ReadLine(from *bufio.Reader) (line []byte, err error) {
	tooLong := false
	for {
		part, err := from.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if tooLong && (err == nil || errors.Is(err, io.EOF)) {
			return nil, errors.Join(ErrTooLong, err)
		}
		return line, err
	}
}
