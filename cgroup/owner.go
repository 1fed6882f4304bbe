package cgroup

// ownerMarks hold Options.Owner; of each other as in marks.
var ownerMarks = []string{"user.cgshim.owner", "trusted.cgshim.owner"}

// Owner is what Options.Owner has set on a group's directory; "" if nothing, or if there is no such directory. Who may write to the
// directory can have it say anything.
func Owner(dir string) string { return readMark(dir, ownerMarks) }

// RemoveParents removes the directories above path as Remove does: those that a Create made, and that are empty. There need be nothing
// at path. missing are directories that were not there before a Create that may have come no further than to make them.
func (h *Host) RemoveParents(path string, missing []string) {
	for _, dir := range missing {
		setMark(dir, marks, madeMark)
	}
	mounts := h.roots()
	for _, root := range mounts {
		removeMade(root+path, mounts, nil)
	}
}
