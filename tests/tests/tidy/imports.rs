//! The files of a crate as modules, and what each imports from the others.
//!
//! Test code is left out: a test may look at everything. A module and the modules within it are one family: a parent
//! declares and re-exports its children, and children use what their parent holds for them, so neither is an arrow.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, ItemUse, UseTree, Visibility, visit::Visit};

/// A module of a crate, by its path from the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Module(Vec<String>);

impl Module {
    /// The outermost module that holds it; empty for the root itself.
    pub(crate) fn top(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("::"))
    }
}

/// What one file holds.
#[derive(Default)]
struct Source {
    /// Every path in it that begins with `crate`, `super` or `self`, with that resolved.
    paths: BTreeSet<Vec<String>>,
    /// What it re-exports, by the name that it gets: the path that it leads to.
    exports: BTreeMap<String, Vec<String>>,
}

/// A crate's modules.
pub(crate) struct Crate(BTreeMap<Module, Source>);

impl Crate {
    /// Reads the crate at that path below the workspace's root.
    pub(crate) fn read(path: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace")
            .join(path)
            .join("src");
        let mut modules = BTreeMap::new();
        read_folder(&root, &root, &mut modules);
        assert!(!modules.is_empty(), "{}: no sources", root.display());
        Self(modules)
    }

    /// Who imports whom, families aside.
    pub(crate) fn imports(&self) -> BTreeSet<(Module, Module)> {
        let mut arrows = BTreeSet::new();
        for (from, source) in &self.0 {
            for path in &source.paths {
                let Some(to) = self.holder(path, 0) else { continue };
                if !to.is_within(from) && !from.is_within(&to) {
                    arrows.insert((from.clone(), to));
                }
            }
        }
        arrows
    }

    /// The module where what `path` names is defined, through re-exports.
    fn holder(&self, path: &[String], depth: usize) -> Option<Module> {
        let longest = (0..=path.len())
            .rev()
            .map(|length| Module(path[..length].to_vec()))
            .find(|module| self.0.contains_key(module))?;
        let rest = &path[longest.0.len()..];
        let exported = rest.first().and_then(|name| self.0[&longest].exports.get(name));
        match exported {
            Some(target) if depth < 8 => {
                let path = [target.as_slice(), &rest[1..]].concat();
                self.holder(&path, depth + 1)
            }
            _ => Some(longest),
        }
    }
}

fn read_folder(root: &Path, folder: &Path, modules: &mut BTreeMap<Module, Source>) {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            read_folder(root, &path, modules);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = module_of(root, &path);
            let is_test = module
                .0
                .iter()
                .any(|name| name == "tests" || name.ends_with("_tests"));
            if !is_test {
                modules.insert(module.clone(), read_file(&path, &module));
            }
        }
    }
}

fn module_of(root: &Path, file: &Path) -> Module {
    let path: PathBuf = file
        .strip_prefix(root)
        .expect("below the root")
        .with_extension("");
    let mut names: Vec<String> = path
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if names
        .last()
        .is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str()))
    {
        names.pop();
    }
    Module(names)
}

fn read_file(path: &Path, module: &Module) -> Source {
    let text = fs::read_to_string(path).expect("a source");
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader {
        module: module.0.clone(),
        source: Source::default(),
    };
    reader.visit_file(&file);
    reader.source
}

/// Collects the paths of one file.
struct Reader {
    /// The module that is read: a file's own, or one inside it.
    module: Vec<String>,
    source: Source,
}

impl Reader {
    /// `path` from the crate's root; `None` if it leads out of the crate.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut here = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                here.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            _ => return None,
        }
        here.extend(rest.iter().cloned());
        Some(here)
    }

    fn leaves(tree: &UseTree, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => Self::leaves(&path.tree, &with(&path.ident), found),
            UseTree::Name(name) if name.ident == "self" => {
                let own = before.last().cloned().unwrap_or_default();
                found.push((before.to_vec(), own));
            }
            UseTree::Name(name) => found.push((with(&name.ident), name.ident.to_string())),
            UseTree::Rename(rename) => found.push((with(&rename.ident), rename.rename.to_string())),
            UseTree::Glob(_) => found.push((before.to_vec(), String::new())),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| Self::leaves(tree, before, found)),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            self.module.push(module.ident.to_string());
            syn::visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut leaves = Vec::new();
        Self::leaves(&item.tree, &[], &mut leaves);
        let is_export = !matches!(item.vis, Visibility::Inherited);
        for (path, name) in leaves {
            // In edition 2024 a path in a `use` may begin with a child of this module.
            let resolved = self
                .resolve(&path)
                .or_else(|| is_export.then(|| [self.module.as_slice(), &path].concat()));
            let Some(resolved) = resolved else { continue };
            if is_export && !name.is_empty() {
                self.source.exports.insert(name, resolved);
            } else {
                self.source.paths.insert(resolved);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if names.len() > 1
            && let Some(resolved) = self.resolve(&names)
        {
            self.source.paths.insert(resolved);
        }
        syn::visit::visit_path(self, path);
    }
}

/// Every set of files of which each imports all others, directly or through others.
pub(crate) fn circles(code: &Crate) -> Vec<Vec<String>> {
    let mut next: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, to) in code.imports() {
        next.entry(from).or_default().insert(to);
    }
    let reach = |start: &Module| {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&Module> = next.get(start).into_iter().flatten().collect();
        while let Some(module) = waiting.pop() {
            if seen.insert(module.clone()) {
                waiting.extend(next.get(module).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        next.keys().map(|module| (module, reach(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, all) in &reached {
        if all.contains(*module) {
            let circle: Vec<String> = all
                .iter()
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(*module)))
                .map(Module::to_string)
                .collect();
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}
