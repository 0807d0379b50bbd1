//! A process that is made to call the kernel, as an attacker would who runs code of his own in it
//! (`ptrace(2)`).

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::libc::{c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::wait::Deadline;

/// The instruction that calls the kernel.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Octets below the stack pointer that belong to the function that runs (System V ABI, red zone),
/// and room for what calls need.
const BELOW: u64 = 4096;

/// A process whose first thread does what it is told. It goes on where it was when this is dropped.
#[derive(Debug)]
pub struct Possessed {
    pid: Pid,
    before: user_regs_struct,
    /// Where the next text goes.
    room: u64,
}

impl Possessed {
    /// Stops a process whose first thread waits in the kernel.
    ///
    /// # Errors
    ///
    /// When it cannot be traced, or is never seen waiting.
    pub fn seize(pid: Pid) -> anyhow::Result<Self> {
        let deadline = Deadline::after(Duration::from_secs(10));
        while !deadline.passed() {
            ptrace::attach(pid).context("cannot trace the process")?;
            waitpid(pid, None)?;
            let before = ptrace::getregs(pid)?;
            let word = ptrace::read(pid, pointer(before.rip - 2))?;
            if word.to_ne_bytes().starts_with(&SYSCALL) {
                return Ok(Self { pid, before, room: before.rsp - BELOW });
            }
            ptrace::detach(pid, None)?;
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the process is never seen waiting: {}", fs::read_to_string(format!("/proc/{pid}/stat"))?)
    }

    /// Writes `octets` into the process; returns their address.
    ///
    /// # Errors
    ///
    /// When there is no room.
    pub fn write(&mut self, octets: &[u8]) -> anyhow::Result<u64> {
        let address = self.room;
        for (number, word) in octets.chunks(size_of::<c_long>()).enumerate() {
            let mut whole = [0; size_of::<c_long>()];
            whole[..word.len()].copy_from_slice(word);
            let at = address + u64::try_from(number * whole.len())?;
            ptrace::write(self.pid, pointer(at), c_long::from_ne_bytes(whole))?;
        }
        self.room += u64::try_from(octets.len().next_multiple_of(size_of::<c_long>()))?;
        ensure!(self.room < self.before.rsp - 256, "no room for more");
        Ok(address)
    }

    /// Writes a text and its NUL into the process; returns its address.
    ///
    /// # Errors
    ///
    /// When there is no room.
    pub fn text(&mut self, text: &str) -> anyhow::Result<u64> {
        self.write(&[text.as_bytes(), &[0]].concat())
    }

    /// Makes a system call; returns what the kernel does: the negative error number where it fails.
    ///
    /// # Errors
    ///
    /// When the process ends by it.
    pub fn call(&mut self, number: c_long, arguments: &[u64]) -> anyhow::Result<i64> {
        let mut given = arguments.iter().copied();
        let mut next = || given.next().unwrap_or(0);
        let registers = user_regs_struct {
            rax: number.cast_unsigned(),
            // Not within a call: the one that waits is not begun again in this one's place.
            orig_rax: u64::MAX,
            rip: self.before.rip - 2,
            rdi: next(),
            rsi: next(),
            rdx: next(),
            r10: next(),
            r8: next(),
            r9: next(),
            ..self.before
        };
        ptrace::setregs(self.pid, registers)?;
        ptrace::step(self.pid, None)?;
        let status = waitpid(self.pid, None)?;
        ensure!(matches!(status, WaitStatus::Stopped(..)), "the process is not stopped: {status:?}");
        Ok(ptrace::getregs(self.pid)?.rax.cast_signed())
    }
}

impl Drop for Possessed {
    fn drop(&mut self) {
        ptrace::setregs(self.pid, self.before).ok();
        ptrace::detach(self.pid, None).ok();
    }
}

fn pointer(address: u64) -> ptrace::AddressType {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}
