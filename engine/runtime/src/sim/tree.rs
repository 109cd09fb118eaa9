//! The names of one disk: directories, what they show and what they keep.
//!
//! Creations, renames and removals are a log apart from the data. Syncing every directory that an entry of the log
//! concerns makes it durable; a power cut keeps a random subset of the others, in order (weak order).
//! Invariant: a durable name never goes back to an older sequence number.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::content::{Content, Survival};

/// One file, under whatever names it has.
#[derive(Default)]
pub(crate) struct Inode {
    pub(crate) content: RefCell<Content>,
}

/// One directory.
#[derive(Default)]
pub(crate) struct Directory {
    visible: RefCell<BTreeMap<OsString, Entry>>,
    durable: RefCell<BTreeMap<OsString, (u64, Option<Entry>)>>,
}

#[derive(Clone)]
pub(crate) enum Entry {
    File(Rc<Inode>),
    Directory(Rc<Directory>),
}

struct Edit {
    directory: Rc<Directory>,
    name: OsString,
    entry: Option<Entry>,
}

/// One atomic change of names that is not durable yet.
struct NameChange {
    sequence: u64,
    edits: Vec<Edit>,
    unsynced: Vec<Rc<Directory>>,
}

/// A disk's names.
#[derive(Default)]
pub(crate) struct Tree {
    root: Rc<Directory>,
    log: RefCell<Vec<NameChange>>,
    sequence: Cell<u64>,
}

impl Tree {
    /// The number of the next change of anything on this disk.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.set(self.sequence.get() + 1);
        self.sequence.get()
    }

    /// The number of the last change.
    pub(crate) fn watermark(&self) -> u64 {
        self.sequence.get()
    }

    pub(crate) fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let names = names_of(path)?;
        let mut entry = Entry::Directory(Rc::clone(&self.root));
        for name in names {
            let Entry::Directory(directory) = &entry else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let next = directory.visible.borrow().get(name).cloned();
            match next {
                Some(next) => entry = next,
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }

    pub(crate) fn file(&self, path: &Path) -> io::Result<Rc<Inode>> {
        match self.entry(path)? {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn directory(&self, path: &Path) -> io::Result<Rc<Directory>> {
        match self.entry(path)? {
            Some(Entry::Directory(directory)) => Ok(directory),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The directory above and the last name.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(Rc<Directory>, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, name))
    }

    /// The file at `path`, created if it is not there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<Rc<Inode>> {
        match self.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (directory, name) = self.parent(path)?;
        let inode = Rc::new(Inode::default());
        self.change(vec![Edit {
            directory,
            name: name.to_owned(),
            entry: Some(Entry::File(Rc::clone(&inode))),
        }]);
        Ok(inode)
    }

    /// Creates a directory in one that is there.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        match self.entry(path)? {
            Some(Entry::Directory(_)) => return Ok(()),
            Some(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        let (directory, name) = self.parent(path)?;
        self.change(vec![Edit {
            directory,
            name: name.to_owned(),
            entry: Some(Entry::Directory(Rc::default())),
        }]);
        Ok(())
    }

    /// Creates directories, durably.
    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut directory = Rc::clone(&self.root);
        for name in names_of(path)? {
            let found = directory.visible.borrow().get(name).cloned();
            let (next, is_new) = match found {
                Some(Entry::Directory(next)) => (next, false),
                Some(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => (Rc::new(Directory::default()), true),
            };
            let entry = Entry::Directory(Rc::clone(&next));
            if is_new {
                let mut visible = directory.visible.borrow_mut();
                visible.insert(name.to_owned(), entry.clone());
            }
            let sequence = self.next_sequence();
            set_durable(&directory, name, sequence, Some(entry));
            directory = next;
        }
        Ok(())
    }

    pub(crate) fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let directory = self.directory(path)?;
        let visible = directory.visible.borrow();
        Ok(visible.keys().map(PathBuf::from).collect())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let entry = self.entry(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        let target = to_directory.visible.borrow().get(to_name).cloned();
        match (&entry, target) {
            (Entry::File(_), Some(Entry::Directory(_))) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Entry::Directory(_), Some(Entry::File(_))) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            (Entry::Directory(_), Some(Entry::Directory(directory)))
                if !directory.visible.borrow().is_empty() =>
            {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        if Rc::ptr_eq(&from_directory, &to_directory) && from_name == to_name {
            return Ok(());
        }
        let removal = Edit {
            directory: from_directory,
            name: from_name.to_owned(),
            entry: None,
        };
        let addition = Edit {
            directory: to_directory,
            name: to_name.to_owned(),
            entry: Some(entry),
        };
        self.change(vec![removal, addition]);
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self.entry(path)? {
            None => Ok(()),
            Some(Entry::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(_)) => self.remove(path),
        }
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match self.entry(path)? {
            None => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Some(Entry::Directory(directory)) => {
                self.empty(&directory);
                self.remove(path)
            }
        }
    }

    fn empty(&self, directory: &Rc<Directory>) {
        let entries = directory.visible.borrow().clone();
        for (name, entry) in entries {
            if let Entry::Directory(inner) = &entry {
                self.empty(inner);
            }
            self.change(vec![Edit {
                directory: Rc::clone(directory),
                name,
                entry: None,
            }]);
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        self.change(vec![Edit {
            directory,
            name: name.to_owned(),
            entry: None,
        }]);
        Ok(())
    }

    /// Everything that can be seen, on a disk of its own where it is durable.
    pub(crate) fn settled_copy(&self) -> Tree {
        Tree {
            root: settled_directory(&self.root),
            ..Tree::default()
        }
    }

    fn change(&self, edits: Vec<Edit>) {
        let mut unsynced: Vec<Rc<Directory>> = Vec::new();
        for edit in &edits {
            let mut visible = edit.directory.visible.borrow_mut();
            match &edit.entry {
                Some(entry) => visible.insert(edit.name.clone(), entry.clone()),
                None => visible.remove(&edit.name),
            };
            if !unsynced.iter().any(|d| Rc::ptr_eq(d, &edit.directory)) {
                unsynced.push(Rc::clone(&edit.directory));
            }
        }
        let sequence = self.next_sequence();
        self.log.borrow_mut().push(NameChange {
            sequence,
            edits,
            unsynced,
        });
    }

    /// Makes the changes up to `watermark` durable as far as this directory concerns them (`None`: every directory).
    pub(crate) fn sync(&self, directory: Option<&Rc<Directory>>, watermark: u64) {
        self.log.borrow_mut().retain_mut(|change| {
            if change.sequence > watermark {
                return true;
            }
            change
                .unsynced
                .retain(|d| directory.is_some_and(|synced| !Rc::ptr_eq(d, synced)));
            if change.unsynced.is_empty() {
                change.make_durable();
            }
            !change.unsynced.is_empty()
        });
    }

    /// Power is gone: only durable names and a random part of the others stay.
    pub(crate) fn power_cut(&self, survival: &Survival<'_>) {
        for change in self.log.take() {
            if survival.keeps_metadata() {
                change.make_durable();
            }
        }
        revert(&self.root, survival);
    }

    /// Every file that can be seen, with its path.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Rc<Inode>)> {
        fn walk(directory: &Directory, path: &Path, files: &mut Vec<(PathBuf, Rc<Inode>)>) {
            for (name, entry) in directory.visible.borrow().iter() {
                match entry {
                    Entry::File(inode) => files.push((path.join(name), Rc::clone(inode))),
                    Entry::Directory(inner) => walk(inner, &path.join(name), files),
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.root, Path::new("/"), &mut files);
        files
    }
}

impl NameChange {
    fn make_durable(&self) {
        for edit in &self.edits {
            set_durable(
                &edit.directory,
                &edit.name,
                self.sequence,
                edit.entry.clone(),
            );
        }
    }
}

/// A copy of a directory and what is in it. Its numbers are lower than that of any change to come.
fn settled_directory(directory: &Directory) -> Rc<Directory> {
    let copy = Directory::default();
    for (name, entry) in directory.visible.borrow().iter() {
        let entry = match entry {
            Entry::File(inode) => Entry::File(Rc::new(Inode {
                content: RefCell::new(inode.content.borrow().settled_copy()),
            })),
            Entry::Directory(inner) => Entry::Directory(settled_directory(inner)),
        };
        let mut durable = copy.durable.borrow_mut();
        durable.insert(name.clone(), (0, Some(entry.clone())));
        copy.visible.borrow_mut().insert(name.clone(), entry);
    }
    Rc::new(copy)
}

fn set_durable(directory: &Directory, name: &OsStr, sequence: u64, entry: Option<Entry>) {
    let mut durable = directory.durable.borrow_mut();
    if durable.get(name).is_none_or(|(old, _)| *old < sequence) {
        durable.insert(name.to_owned(), (sequence, entry));
    }
}

/// Makes the visible names of a directory and of those below it the durable ones, and the files' bytes likewise.
fn revert(directory: &Rc<Directory>, survival: &Survival<'_>) {
    let mut durable = directory.durable.borrow_mut();
    durable.retain(|_, (_, entry)| entry.is_some());
    let mut visible = directory.visible.borrow_mut();
    visible.clear();
    for (name, (_, entry)) in durable.iter() {
        let Some(entry) = entry else { continue };
        match entry {
            Entry::File(inode) => inode.content.borrow_mut().power_cut(survival),
            Entry::Directory(inner) => revert(inner, survival),
        }
        visible.insert(name.clone(), entry.clone());
    }
}

/// The parts of an absolute path (a relative one counts from the root).
fn names_of(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
