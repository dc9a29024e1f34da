use std::env::var;
use wechat_mp_sdk::types::{AppId, AppSecret};
use wechat_mp_sdk::WechatMp;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wechat = WechatMp::builder()
        .appid(AppId::new(var("QRJUMP_APPID")?)?)
        .secret(AppSecret::new(var("QRJUMP_SECRET")?)?)
        .build()?;
    println!("{}", wechat.get_access_token().await?);
    Ok(())
}
